"""Every trainer of this package, found by reading the modules they stand in."""

from . import baselines, tpmamba
from .testbed import nnUNetTrainerTestbed

MODULES = (tpmamba, baselines)


def trainers() -> dict[str, type[nnUNetTrainerTestbed]]:
    """The trainers that nnU-Net may find, by name, in the order in which they are written."""
    return {
        name: thing
        for module in MODULES
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, nnUNetTrainerTestbed) and thing.__module__ == module.__name__
    }
