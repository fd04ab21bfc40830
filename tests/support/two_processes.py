"""What two processes of a training do; they are spawned, so their functions stand where they can be imported from."""

import json
import os
import signal
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from support.configs import TINY
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.data import preprocessing
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

WORLD_SIZE = 2
STEPS = 2
LIMIT = 90  # s for the processes to end

CASES = {
    "frozen encoder": (TINY, 1, False),
    "from scratch": (replace(TINY, pretrained=False), 1, False),
    "two channels": (TINY, 2, False),
    "checkpointing": (replace(TINY, checkpointing=True), 1, False),
    "batch dice": (TINY, 1, True),
}
"""Configuration, input channels, and whether Dice is computed over the patches of all processes together."""


def run_in_two_processes(work, folder, *arguments):
    """Call ``work(rank, *arguments)`` in both; return what each returned."""
    context = torch.multiprocessing.spawn(start, (work, folder, arguments), nprocs=WORLD_SIZE, join=False)
    deadline = time.monotonic() + LIMIT
    try:
        while not context.join(timeout=1):  # raises what one of them raised, and ends the other
            assert time.monotonic() < deadline, f"the processes were not done after {LIMIT} s"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD_SIZE)]


def start(rank, work, folder, arguments):
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    distributed.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=WORLD_SIZE, timeout=timedelta(seconds=LIMIT)
    )
    try:
        torch.save(work(rank, *arguments), folder / f"{rank}.pt")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def build(config, channels, seed):
    """A network without zeros, because behind a zero layer all gradients are zero."""
    torch.manual_seed(seed)
    network = TPMamba(channels, 3, config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad and torch.all(parameter == 0):
                parameter.normal_(std=0.02)
    return network


def patch(channels, seed):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(1, channels, 4, 16, 24, generator=generator)
    return data, torch.randint(0, 3, (1, 1, 4, 16, 24), generator=generator)


def build_loss(is_ddp, batch_dice):
    """As nnU-Net's trainer builds it."""
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": is_ddp}
    return DC_and_CE_loss(dice, {}, weight_ce=1, weight_dice=1, dice_class=MemoryEfficientSoftDiceLoss)


def train(network, losses_of_step):
    """Take steps; return every parameter's gradient in each, None where there is none."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.05)
    gradients = []
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        losses_of_step(step).backward()
        gradients.append({
            name.removeprefix("module."): None if p.grad is None else p.grad.clone()
            for name, p in network.named_parameters()
        })  # fmt: skip
        optimizer.step()
    return gradients


def train_all_cases(rank):
    return {name: train_as_one_of_two(rank, *case) for name, case in CASES.items()}


def train_as_one_of_two(rank, config, channels, batch_dice):
    network = DistributedDataParallel(build(config, channels, seed=rank))  # the weights of rank 0 are sent to all
    loss = build_loss(True, batch_dice)

    def loss_of_step(step):
        data, target = patch(channels, seed=WORLD_SIZE * step + rank)
        return loss(network(data), target)

    return train(network, loss_of_step)


class nnUNetTrainerTPMamba_three(nnUNetTrainerTPMamba):
    config = replace(TINY, pretrained=False, checkpointing=False)
    testbed = replace(
        nnUNetTrainerTPMamba.testbed,
        patch_size=(8, 16, 16),
        batch_size=3,
        num_iterations_per_epoch=3,
        num_val_iterations_per_epoch=1,
    )
    steps = 0

    def train_step(self, batch):
        """The second process alone gets a signal, in its fifth step, and SIGINT as if its parent had ended by it."""
        self.steps += 1
        if self.steps == 5 and distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGINT)
        return super().train_step(batch)


def prepare(rank, folder):
    """Make the trainer and its data as ``nnUNetv2_train`` does, in both processes at once."""
    made = []
    make = preprocessing._make

    def make_and_count(data, cases, survey, *others):
        made.extend(survey.outdated)
        make(data, cases, survey, *others)

    preprocessing._make = make_and_count
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainerTPMamba_three(plans, "3d_fullres", "all", dataset_json, torch.device("cpu"))
    distributed.barrier()
    trainer.preprocess()
    files = sorted(path.name for path in (folder / trainer.configuration_manager.data_identifier).glob("[a-z]*.*"))
    trainer._set_batch_size_and_oversample()
    return {
        "made": made,
        "files": files,
        "is_ddp": trainer.is_ddp,
        "batch_size of the plans": trainer.configuration_manager.batch_size,
        "batch_size": trainer.batch_size,
        "oversampling": (trainer.probabilistic_oversampling, trainer.oversample_foreground_percent),
        "stopped": train_until_stopped(trainer),
    }


def train_until_stopped(trainer):
    """Run nnU-Net's loop on the CPU, for which it does not set up several processes; return how it ended."""
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    trainer.logger.plot_progress_png = lambda folder: None
    with pytest.MonkeyPatch.context() as monkeypatch:
        on_cpu = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer.DDP"
        monkeypatch.setattr(on_cpu, lambda network, device_ids: DistributedDataParallel(network))
        with pytest.raises(SystemExit) as end:
            trainer.run_training()
    return end.value.code, trainer.current_epoch, trainer.steps
