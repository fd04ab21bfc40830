"""Find every trainer of this package, and read from its class what it is."""

import inspect
from dataclasses import dataclass

import torch

from . import baselines, originals, tpmamba
from .testbed import nnUNetTrainerTestbed

MODULES = (tpmamba, baselines, originals)


@dataclass(frozen=True)
class Facts:
    """What the list of trainers says of one trainer.

    Args:
        what: the first sentence of its docstring.
        parameters, trained: how many numbers its network has, and how many of them are trained.
        needs: what a user must have to train it.
    """

    what: str
    parameters: int
    trained: int
    needs: str


def trainers() -> dict[str, type[nnUNetTrainerTestbed]]:
    """The trainers that nnU-Net may find, by name, in the order in which they are written."""
    return {
        name: thing
        for module in MODULES
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, nnUNetTrainerTestbed) and thing.__module__ == module.__name__
    }


def describe(trainer: type[nnUNetTrainerTestbed], input_channels: int, num_classes: int) -> Facts:
    """Read a trainer's facts from its class; its network is built without memory for its weights.

    Args:
        input_channels: of the images.
        num_classes: background included.
    """
    with torch.device("meta"):
        network = trainer.build_network(input_channels, num_classes, trainer.testbed.patch_size)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    what = " ".join(inspect.cleandoc(trainer.__doc__ or "").split("\n\n")[0].split())
    return Facts(what, sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains), trainer.needs)
