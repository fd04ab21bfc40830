"""Find every trainer of this package, and read from its class what it is."""

import inspect
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import nn

from . import ablations, baselines, encoders, mednext, originals, sam_rows, tpmamba, umamba
from .testbed import nnUNetTrainerTestbed

MODULES = (tpmamba, encoders, ablations, baselines, mednext, umamba, sam_rows, originals)
NOT_OF_THE_NETWORK = {"testbed", "row", "needs", "check_installed", "find_pretrained", "configure_optimizers"}
"""What a class may set without changing its network, but for the patch and its spacing."""


@dataclass(frozen=True)
class Facts:
    """What the list of trainers says of one trainer.

    Args:
        what: the first sentence of its docstring.
        parameters, trained: how many numbers its network has, and how many of them are trained; None if unknown.
        needs: what a user must have to train it.
        missing: what must be installed before its parameters can be counted; "" if nothing.
    """

    what: str
    parameters: int | None
    trained: int | None
    needs: str
    missing: str = ""


def trainers() -> dict[str, type[nnUNetTrainerTestbed]]:
    """The trainers that nnU-Net may find, by name, in the order in which they are written."""
    return {
        name: thing
        for module in MODULES
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, nnUNetTrainerTestbed) and thing.__module__ == module.__name__
    }


def rows() -> dict[str, type[nnUNetTrainerTestbed]]:
    """The trainers that are a row of the paper's tables themselves, and not by inheritance."""
    return {name: trainer for name, trainer in trainers().items() if vars(trainer).get("row")}


def rows_of_table_1() -> dict[str, type[nnUNetTrainerTestbed]]:
    """The trainers of the rows for which the paper's table 1 has a Dice."""
    return {name: row for name, row in rows().items() if row.row and row.row.table == "table 1" and row.row.dice}


def networks() -> dict[str, type[nnUNetTrainerTestbed]]:
    """One trainer for each network: the rows, then the others whose network is not that of a trainer before them."""
    found: dict[_Network, tuple[str, type[nnUNetTrainerTestbed]]] = {}
    for name, trainer in (rows() | trainers()).items():
        found.setdefault(_Network.of(trainer), (name, trainer))
    return dict(found.values())


def missing_for(trainer: type[nnUNetTrainerTestbed]) -> str:
    """What must be installed or downloaded before a trainer can start a new training; "" if nothing."""
    try:
        trainer.check_installed()
        trainer.find_pretrained()
    except (ImportError, OSError) as error:
        return str(error)
    return ""


def first_sentence(trainer: type[nnUNetTrainerTestbed]) -> str:
    """What a trainer is, from its docstring."""
    return " ".join(inspect.cleandoc(trainer.__doc__ or "").split("\n\n")[0].split())


def describe(trainer: type[nnUNetTrainerTestbed], input_channels: int, num_classes: int) -> Facts:
    """Read a trainer's facts from its class; its network is built without memory for its weights.

    Args:
        input_channels: of the images.
        num_classes: background included.
    """
    what = first_sentence(trainer)
    try:
        trainer.check_installed()
        return Facts(what, *_sizes(_Network.of(trainer), input_channels, num_classes), trainer.needs)
    except ImportError as error:
        return Facts(what, None, None, trainer.needs, missing=str(error))


def without_memory(trainer: type[nnUNetTrainerTestbed], input_channels: int, num_classes: int) -> nn.Module:
    """Build a trainer's network on the meta device, ready for a training step; arguments as for :func:`describe`."""
    with torch.device("meta"):
        network = trainer.build_network(input_channels, num_classes, trainer.testbed.patch_size)
    trainer.toggle_deep_supervision(network, trainer.deep_supervision)
    return network.train()


def parameters_of(network: nn.Module) -> tuple[int, int]:
    """How many numbers a network has, and how many of them are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)


@dataclass(frozen=True)
class _Network:
    """What decides a trainer's network; trainers that differ in training only, such as in epochs, have equal ones."""

    classes: tuple[type, ...]
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    trainer: type[nnUNetTrainerTestbed] = field(compare=False)

    @classmethod
    def of(cls, trainer: type[nnUNetTrainerTestbed]) -> "_Network":
        classes = tuple(
            each
            for each in trainer.mro()
            if {name for name in vars(each) if not name.startswith("__")} - NOT_OF_THE_NETWORK
        )
        return cls(classes, trainer.testbed.patch_size, trainer.testbed.spacing, trainer)


@cache
def _sizes(network: _Network, input_channels: int, num_classes: int) -> tuple[int, int]:
    return parameters_of(without_memory(network.trainer, input_channels, num_classes))
