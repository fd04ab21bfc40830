"""What nnU-Net finds when ``nnUNet_extTrainer`` is this folder: the trainers, from the package they live in."""

from typing import Any

PREFIX = "nnUNetTrainerT"  # every name of ours begins so; nnU-Net asks this module also for trainers of other packages


def __getattr__(name: str) -> Any:
    if name.startswith(PREFIX):
        from nnunetv2_tpmamba.trainers.catalogue import trainers

        if trainer := trainers().get(name):
            return trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
