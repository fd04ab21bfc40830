"""Nothing is lost: losses that are not finite, too little memory, checkpoints, and continuing."""

import os
import re
from multiprocessing import SimpleQueue
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from support.tiny_trainer import batch, nnUNetTrainerTPMamba_tiny, state

from nnunetv2_tpmamba.data.training_log import read_prediction_peak_memory, says_stopped
from nnunetv2_tpmamba.networks.sam import download
from nnunetv2_tpmamba.trainers import safe
from nnunetv2_tpmamba.trainers.data_workers import why_ended


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training(make, value):
    made = make()
    bad = batch(data=torch.full((1, 1, 8, 16, 16), value), keys=["case3"])
    for step, phase in (made.validation_step, "validation"), (made.train_step, "training"):
        with pytest.raises(
            RuntimeError, match=rf"the {phase} loss became nan in epoch 0 \(cases case3\).*--c.*initial_lr"
        ):
            step(bad)


def test_an_infinite_loss_stops_training_too(make, monkeypatch):
    made = make()
    monkeypatch.setattr(made, "loss", lambda output, target: output.float().mean() * 0 + float("inf"))
    for step, phase in (made.validation_step, "validation"), (made.train_step, "training"):
        with pytest.raises(RuntimeError, match=f"the {phase} loss became inf in epoch 0"):
            step(batch())


@pytest.mark.parametrize(
    ("method", "hook"),
    [("run_training", "on_train_start"), ("perform_actual_validation", "set_deep_supervision_enabled")],
)
@pytest.mark.parametrize(
    ("error", "message"), [(ValueError("this is wrong"), "this is wrong"), (KeyboardInterrupt(), "KeyboardInterrupt")]
)
def test_the_error_that_ends_a_training_is_the_last_message_in_its_log(make, monkeypatch, method, hook, error, message):
    def fail(*_):
        raise error

    made = make()
    monkeypatch.setattr(made, hook, fail)
    with pytest.raises(type(error)):
        getattr(made, method)()
    last = Path(made.log_file).read_text().strip().splitlines()[-1]
    assert last.endswith(f": Stopped: {message}")
    assert says_stopped(last.partition(": ")[2])


def test_the_error_that_ends_a_data_worker_is_the_last_message_too(make, monkeypatch):
    """nnU-Net's own message, that workers are no longer alive, stands below the traceback and names no cause."""
    trains, load_case = os.getpid(), nnUNetDatasetBlosc2.load_case

    def fail_in_workers(self, identifier):
        if os.getpid() != trains:
            raise OSError(f"{identifier} cannot be read")
        return load_case(self, identifier)

    made = make()
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setattr(nnUNetDatasetBlosc2, "load_case", fail_in_workers)
    with pytest.raises(RuntimeError, match=r"a process that made batches ended with OSError: case\d cannot be read \("):
        made.run_training()
    last = Path(made.log_file).read_text().strip().splitlines()[-1]
    assert re.search(
        r"Stopped: a process .* ended with OSError: case\d cannot be read \(test_safe.py, line \d+\)", last
    )


def test_of_one_seed_batches_are_the_same(make, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")

    def batches(seed):
        made = make()
        made.seed = seed
        loaders = made.get_dataloaders()
        data = [next(loader)["data"] for loader in loaders for _ in range(2)]
        for loader in loaders:
            loader._finish()
        return torch.stack(data)

    assert batches(3).equal(batches(3))
    assert not batches(3).equal(batches(4))


def test_a_data_worker_that_reported_nothing_was_ended_from_outside():
    error = RuntimeError("One or more background workers are no longer alive. Exiting.")
    assert "ended from outside, as for lack of memory; export" in why_ended(error, SimpleQueue())
    assert why_ended(RuntimeError("another"), SimpleQueue()) is None


def test_the_best_checkpoint_is_that_of_the_highest_mean(make):
    made = make()
    best = Path(made.output_folder, "checkpoint_best.pth")
    names = ("train_losses", "val_losses", "mean_fg_dice", "epoch_start_timestamps", "epoch_end_timestamps", "lrs")
    kept = []
    for epoch, dice in enumerate((0.2, 0.9, 0.1, 0.4)):
        made.current_epoch = epoch
        for name in names:
            made.logger.log(name, dice, epoch)
        made.save_checkpoint(f"{made.output_folder}/checkpoint_latest.pth")
        kept.append(torch.load(best, weights_only=False)["current_epoch"] - 1)
    means = made.logger.get_value("ema_fg_dice", step=None)
    assert kept == [int(np.argmax(means[: epoch + 1])) for epoch in range(4)]
    assert kept[0] != kept[-1] != 3  # neither the first nor the last: a choice was made


def test_resuming_continues_learning_rate_epoch_and_weights(make, monkeypatch):
    first = make()
    first.train_step(batch(0))
    first.train_step(batch(1))
    for name in ("train_losses", "val_losses", "mean_fg_dice", "epoch_start_timestamps", "epoch_end_timestamps", "lrs"):
        first.logger.log(name, 0.5, 0)
    first.save_checkpoint(f"{first.output_folder}/checkpoint_latest.pth")

    monkeypatch.setattr(download, "find_sam_checkpoint", lambda model: pytest.fail("a checkpoint needs no SAM file"))
    resumed = make(initialized=False)
    resumed.load_checkpoint(f"{first.output_folder}/checkpoint_latest.pth")
    assert resumed.current_epoch == 1
    for name, x in state(first.network).items():
        assert torch.equal(resumed.network.state_dict()[name], x), name

    for made in (first, resumed):
        made.current_epoch = 1
        made.on_train_epoch_start()
        assert made.optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 * (2 / 3) ** 0.9)
        made.train_step(batch(2))  # with the moments of the first two steps
    for name, x in state(first.network).items():
        torch.testing.assert_close(resumed.network.state_dict()[name], x, rtol=0, atol=0)


class nnUNetTrainerTPMamba_tiny_exploding(nnUNetTrainerTPMamba_tiny):
    """Learns well for two epochs; the third has a learning rate that no network survives."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.save_every = 1

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        if self.current_epoch == 2:
            self.optimizer.param_groups[0]["lr"] = 1e30


def test_a_diverged_training_keeps_its_last_good_checkpoint(make):
    made = make(nnUNetTrainerTPMamba_tiny_exploding)
    with pytest.raises(RuntimeError, match=r"loss became (nan|inf) in epoch 2 .*continue with --c"):
        made.run_training()
    checkpoint = torch.load(f"{made.output_folder}/checkpoint_latest.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert all(x.isfinite().all() for x in checkpoint["network_weights"].values())


def test_out_of_gpu_memory_says_what_to_change(make, monkeypatch):
    """The error itself is made up: no GPU is needed to test the message."""
    made = make()
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    monkeypatch.setattr(made.network, "forward", lambda data: (_ for _ in ()).throw(error))
    with pytest.raises(RuntimeError, match=r"too little memory .*2.00 GiB.*checkpointing=True.*_grid6"):
        made.train_step(batch())


@pytest.mark.parametrize("restarted", [True, False])
def test_the_peak_memory_of_the_final_validation_is_logged_where_it_is_known(make, monkeypatch, restarted):
    made = make()
    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", lambda self, save_probabilities: None)
    monkeypatch.setattr(safe, "restart_peak", lambda device: restarted)
    made.perform_actual_validation()
    known = read_prediction_peak_memory(Path(made.log_file).read_text())
    assert (known is not None) == restarted
