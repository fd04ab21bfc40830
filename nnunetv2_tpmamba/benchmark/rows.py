"""The rows of the paper's tables: what each network costs by count, and how long its training step takes here."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunetv2_tpmamba.networks.device import counted_for
from nnunetv2_tpmamba.trainers import catalogue
from nnunetv2_tpmamba.trainers.memory import free_bytes, training_step_bytes, without_data
from nnunetv2_tpmamba.trainers.optimization import build_optimizer
from nnunetv2_tpmamba.trainers.sam import nnUNetTrainerSAM
from nnunetv2_tpmamba.trainers.testbed import nnUNetTrainerTestbed

from .flops import counted
from .network import compiled, predicting, random_volume, whole_network
from .setting import SMALL_CONFIG, Setting
from .task import Contestant, Makers, Task
from .training import training_step

ALL = "all"
FORWARD, STEP = "forward by count", "training step"
INPUT_CHANNELS, NUM_CLASSES = 1, 14  # the paper's
SMALL_SIDES = (32, 64)  # voxels; the smallest cubes that some row takes
OF_THE_ENCODER = ("embed_dim", "depth", "num_heads", "window_size", "global_attn_indexes", "encoder_image_size")

Trainer = type[nnUNetTrainerTestbed]


@dataclass(frozen=True)
class Counts:
    """What a network costs, counted without running it.

    Args:
        parameters, trained: how many numbers it has, and how many of them are trained.
        flops: floating-point operations of a forward pass, see :mod:`.flops`.
        step_bytes: peak memory of a training step on a GPU under fp16 autocast, see
            :func:`~nnunetv2_tpmamba.trainers.memory.training_step_bytes`.
    """

    parameters: int
    trained: int
    flops: int
    step_bytes: int


def count(trainer: Trainer) -> Counts:
    """Count what a trainer's network costs on its patch, with one channel and 14 classes; takes seconds.

    Raises:
        ImportError: a package that the network needs is missing.
    """
    trainer.check_installed()
    network = catalogue.without_memory(trainer, INPUT_CHANNELS, NUM_CLASSES)
    shape = (1, INPUT_CHANNELS, *trainer.testbed.patch_size)
    step_bytes = training_step_bytes(network, shape, "cuda")
    return Counts(*catalogue.parameters_of(network), forward_flops(network, shape), step_bytes)


def forward_flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count the operations of a forward pass as in training, with all outputs, on tensors without data."""
    with FakeTensorMode(), counted_for("cuda"):
        return counted(without_data(network), torch.empty(shape))


def tasks(setting: Setting) -> list[Task]:
    """List a task for each row, so that the results of a finished one are kept."""
    return [Task("rows", name, partial(_prepare, setting, trainer)) for name, trainer in chosen(setting.rows).items()]


def chosen(names: Collection[str]) -> dict[str, Trainer]:
    """The trainers of these names, for "all" one of each network, or else all rows of the paper's tables."""
    if list(names) == [ALL]:
        return catalogue.networks()
    known = catalogue.trainers()
    for name in names:
        if name not in known:
            raise ValueError(f"-tr {name}: there is no such trainer; nnUNetv2_tpmamba trainers lists them")
    return {name: known[name] for name in names} if names else catalogue.rows()


def left_out() -> str:
    """Say which trainers are no rows of the paper's tables, and which of them :data:`ALL` measures too."""
    others = catalogue.trainers().keys() - catalogue.rows().keys()
    more = [name for name in catalogue.networks() if name in others]
    return (
        f"Not measured, because they are in no table of the paper: {', '.join(more)}; -tr {ALL} measures them too. "
        f"{len(others) - len(more)} more trainers have the network of one that is measured, and differ in epochs or "
        "optimiser."
    )


def shrunk(trainer: Trainer) -> Trainer:
    """The same trainer on the smallest cube that its network takes, and with a tiny encoder in place of SAM's."""
    changes: dict[str, Any] = {}
    if issubclass(trainer, nnUNetTrainerSAM):
        tiny = {name: getattr(SMALL_CONFIG, name) for name in OF_THE_ENCODER}
        changes = {"config": replace(trainer.config, **tiny)}
    for side in SMALL_SIDES:
        changes["testbed"] = replace(trainer.testbed, patch_size=(side,) * 3)
        small: Trainer = type(trainer.__name__, (trainer,), changes)
        try:
            small.check_patch_size(small.testbed.patch_size)
        except ValueError:
            continue
        return small
    return trainer


def _prepare(setting: Setting, trainer: Trainer) -> Makers:
    trainer.check_installed()
    trainer = shrunk(trainer) if setting.small else trainer
    patch_size = trainer.testbed.patch_size
    shape = (1, INPUT_CHANNELS, *patch_size)

    def forward() -> Contestant:
        network = catalogue.without_memory(trainer, INPUT_CHANNELS, setting.num_classes)
        return Contestant(None, flops=forward_flops(network, shape))

    def step() -> Contestant:
        plan = catalogue.without_memory(trainer, INPUT_CHANNELS, setting.num_classes)
        needed, free = training_step_bytes(plan, shape, setting.device.type), free_bytes(setting.device)
        if free is not None and needed > free:  # a process that takes more may be ended by the system
            raise RuntimeError(f"a training step needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        network = setting.build(lambda: trainer.build_network(INPUT_CHANNELS, setting.num_classes, patch_size))
        trainer.toggle_deep_supervision(network, trainer.deep_supervision)
        optimizer = build_optimizer(network, trainer.testbed.initial_lr, trainer.testbed.weight_decay)
        volume = random_volume(setting, patch_size)
        target = torch.randint(setting.num_classes, volume.shape, device=setting.device).to(volume.dtype)
        compiles = setting.device.type == "cuda" and setting.compiles
        runs = compiled(network) if compiles else network
        contestant = whole_network(
            network, training_step(runs, optimizer, volume, target, setting), patch_size, setting, optimizer
        )
        # half a patch, the usual warm-up on a CPU, is not a size that every network takes
        warm_up = predicting(network, volume, setting) if setting.device.type == "cpu" else None
        return replace(contestant, warm_up=warm_up, counted_bytes=needed)

    return {FORWARD: forward, STEP: step}
