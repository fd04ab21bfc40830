"""Variants of nnUNetTrainerTPMamba: each is the trainer with some numbers of its config replaced."""

import os
from dataclasses import replace

import torch

from .testbed import nnUNetTrainerTPMamba


class nnUNetTrainerTPMamba_grid6(nnUNetTrainerTPMamba):
    """Slices are not enlarged: a 6 x 6 grid per 96 x 96 slice, a quarter of the encoder's work."""

    config = replace(nnUNetTrainerTPMamba.config, in_plane_upsample=1)


class nnUNetTrainerTPMamba_scratch(nnUNetTrainerTPMamba):
    """The same network from random weights, nothing frozen; needs no SAM file."""

    config = replace(nnUNetTrainerTPMamba.config, pretrained=False)


class nnUNetTrainerTPMamba_small(nnUNetTrainerTPMamba):
    """A small encoder trained from random weights, for machines without a GPU; needs no SAM file."""

    config = replace(
        nnUNetTrainerTPMamba.config,
        pretrained=False,
        embed_dim=192,
        depth=4,
        num_heads=3,
        window_size=0,
        encoder_image_size=192,
    )


class nnUNetTrainerTPMamba_demo(nnUNetTrainerTPMamba_small):
    """``_small``, yet smaller, on coarse voxels for minutes on a CPU: shows the pipeline, not the paper's accuracy.

    The environment variable ``TPMAMBA_DEMO_EPOCHS`` changes the number of epochs.
    """

    config = replace(
        nnUNetTrainerTPMamba_small.config,
        spacing=(5.0, 5.0, 5.0),
        patch_size=(32, 48, 48),
        encoder_patch_size=8,  # an encoder without pretraining learns from few iterations only if its tokens are small
        encoder_image_size=96,
        embed_dim=96,
        adapter_dim=32,
        decoder_dim=32,
        initial_lr=7e-3,
        warmup_epochs=2,
        num_epochs=25,
        num_iterations_per_epoch=25,
        num_val_iterations_per_epoch=2,
        mirroring=False,
    )

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the host's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        epochs = os.environ.get("TPMAMBA_DEMO_EPOCHS", str(self.num_epochs))
        if not epochs.isdecimal() or int(epochs) < 1:
            raise ValueError(f"TPMAMBA_DEMO_EPOCHS is {epochs!r}; set it to a whole number of at least 1, or unset it")
        self.num_epochs = int(epochs)


class nnUNetTrainerTPMamba_1epoch(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=1)


class nnUNetTrainerTPMamba_5epochs(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=5)


class nnUNetTrainerTPMamba_10epochs(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=10)


class nnUNetTrainerTPMamba_20epochs(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=20)


class nnUNetTrainerTPMamba_50epochs(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=50)


class nnUNetTrainerTPMamba_100epochs(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=100)


class nnUNetTrainerTPMamba_250epochs(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=250)


class nnUNetTrainerTPMamba_500epochs(nnUNetTrainerTPMamba):
    config = replace(nnUNetTrainerTPMamba.config, num_epochs=500)
