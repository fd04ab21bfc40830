"""nnUNetTrainerTPMamba, the paper's method, and its variants, each of which replaces a few numbers."""

import os
from dataclasses import replace

import torch
from torch import nn

from nnunetv2_tpmamba.config import DEMO_SEED

from .data_workers import seed_everything
from .row import Row
from .sam import nnUNetTrainerSAM


class nnUNetTrainerTPMamba(nnUNetTrainerSAM):
    """The paper: SAM ViT-B frozen, LoRA, tri-plane Mamba adapters and decoder trained, on 96 mm cubes at 1 mm.

    Source: Wang et al., MICCAI 2024.
    """

    row = Row(
        table="table 1",
        name="TP-Mamba",
        source="written from the paper, Apache-2.0",
        dice={24: 84.8, 6: 79.7, 3: 65.8},
        differs="Slices are enlarged twofold, as in the released code.",
    )

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.tpmamba import TPMamba

        return TPMamba(input_channels, num_classes, cls.config)


class nnUNetTrainerTPMamba_grid6(nnUNetTrainerTPMamba):
    """Slices are not enlarged: a 6 x 6 grid per 96 x 96 slice, a quarter of the encoder's work."""

    config = replace(nnUNetTrainerTPMamba.config, in_plane_upsample=1)


class nnUNetTrainerTPMamba_scratch(nnUNetTrainerTPMamba):
    """The same network from random weights, nothing frozen; needs no SAM file."""

    config = replace(nnUNetTrainerTPMamba.config, pretrained=False)
    needs = "a GPU"


class nnUNetTrainerTPMamba_small(nnUNetTrainerTPMamba):
    """A small encoder trained from random weights, for machines without a large GPU; needs no SAM file."""

    config = replace(
        nnUNetTrainerTPMamba.config,
        pretrained=False,
        embed_dim=192,
        depth=4,
        num_heads=3,
        window_size=0,
        encoder_image_size=192,
    )
    needs = "a small GPU; a CPU for a few iterations"


class nnUNetTrainerTPMamba_demo(nnUNetTrainerTPMamba_small):
    """A still smaller network on coarse voxels, which the demo trains for minutes on a CPU to show the pipeline.

    As long as one process makes the batches, only rounding lets two trainings differ. The environment variable
    ``TPMAMBA_DEMO_EPOCHS`` changes the number of epochs, ``TPMAMBA_DEMO_SEED`` the random numbers.
    """

    config = replace(
        nnUNetTrainerTPMamba_small.config,
        encoder_patch_size=8,  # an encoder without pretraining learns from few iterations only if its tokens are small
        encoder_image_size=96,
        embed_dim=96,
        adapter_dim=32,
        decoder_dim=32,
    )
    testbed = replace(
        nnUNetTrainerTPMamba_small.testbed,
        spacing=(6.0, 6.0, 6.0),
        patch_size=(36, 36, 36),
        initial_lr=5e-3,
        num_epochs=30,
        num_iterations_per_epoch=25,
        num_val_iterations_per_epoch=2,
        mirroring=False,
    )
    needs = "a CPU"

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the host's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = whole_number("TPMAMBA_DEMO_EPOCHS", self.num_epochs, least=1)
        self.seed = whole_number("TPMAMBA_DEMO_SEED", DEMO_SEED, least=0)

    def initialize(self, pretrained: bool = True) -> None:
        assert self.seed is not None
        seed_everything(self.seed)
        super().initialize(pretrained)

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        if left := self.num_epochs - self.current_epoch:
            self.print_to_log_file(f"{left} epoch{'s' * (left > 1)} left, about {self.seconds_left() / 60:.1f} minutes")

    def seconds_left(self) -> float:
        """How long the remaining epochs take at the pace of the last one, without the final validation."""
        began, ended = (self.logger.get_value(f"epoch_{what}_timestamps", step=-1) for what in ("start", "end"))
        return (self.num_epochs - self.current_epoch) * (ended - began)


def whole_number(variable: str, default: int, least: int) -> int:
    """Read an environment variable.

    Raises:
        ValueError: it is set to anything but a whole number of at least ``least``.
    """
    value = os.environ.get(variable, str(default))
    if not value.isdecimal() or int(value) < least:
        raise ValueError(f"{variable} is {value!r}; set it to a whole number of at least {least}, or unset it")
    return int(value)


class nnUNetTrainerTPMamba_1epoch(nnUNetTrainerTPMamba):
    """The paper with 1 epoch instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=1)


class nnUNetTrainerTPMamba_5epochs(nnUNetTrainerTPMamba):
    """The paper with 5 epochs instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=5)


class nnUNetTrainerTPMamba_10epochs(nnUNetTrainerTPMamba):
    """The paper with 10 epochs instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=10)


class nnUNetTrainerTPMamba_20epochs(nnUNetTrainerTPMamba):
    """The paper with 20 epochs instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=20)


class nnUNetTrainerTPMamba_50epochs(nnUNetTrainerTPMamba):
    """The paper with 50 epochs instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=50)


class nnUNetTrainerTPMamba_100epochs(nnUNetTrainerTPMamba):
    """The paper with 100 epochs instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=100)


class nnUNetTrainerTPMamba_250epochs(nnUNetTrainerTPMamba):
    """The paper with 250 epochs instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=250)


class nnUNetTrainerTPMamba_500epochs(nnUNetTrainerTPMamba):
    """The paper with 500 epochs instead of 1000."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, num_epochs=500)
