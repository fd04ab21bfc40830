"""What nnU-Net finds when ``nnUNet_extTrainer`` is this folder: the trainers, from the package they live in."""

from typing import Any

PREFIX = "nnUNetTrainerT"  # of all our names; nnU-Net asks for every trainer, also for those of others


def __getattr__(name: str) -> Any:
    if name.startswith(PREFIX):
        from nnunetv2_tpmamba.trainers.catalogue import trainers

        if trainer := trainers().get(name):
            return trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
