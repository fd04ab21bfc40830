"""The rows of the paper's table 1 that adapt SAM with less than the paper's adapters, in the paper's network."""

from dataclasses import replace

from torch import nn

from nnunetv2_tpmamba.config import MASAM_CONFIG

from .row import Row
from .sam import nnUNetTrainerSAM


class nnUNetTrainerTestbed_SAMed(nnUNetTrainerSAM):
    """Zhang and Liu, "SAMed", 2023: LoRA in SAM and no adapter, which is the network of nnUNetTrainerTPMamba_lora.

    The decoder is the paper's. SAMed's own is SAM's, which would make maps of 24 x 24 of slices of 96 x 96.
    """

    row = Row(
        table="table 1",
        name="SAMed",
        source="ours: the paper's network without adapters, from the facts of hitachinsk/SAMed, MIT",
        dice={24: 82.2, 6: 74.6, 3: 55.7},
        differs="LoRA has rank 64 and not 4, and the decoder is the paper's and not SAM's. The authors train on slices "
        "of 512 x 512 with AdamW at 5e-3, weight decay of 0.1 and warm-up.",
    )
    config = replace(nnUNetTrainerSAM.config, adapter="none")

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.tpmamba import TPMamba

        return TPMamba(input_channels, num_classes, cls.config)


class nnUNetTrainerTestbed_MASAM(nnUNetTrainerSAM):
    """Chen et al., "MA-SAM", Medical Image Analysis 2024: LoRA in SAM, and two convolutions along depth per block.

    The decoder is the paper's. MA-SAM's own is SAM's with two more enlargements.
    """

    row = Row(
        table="table 1",
        name="MA-SAM",
        source="ours: the paper's network with MA-SAM's adapters, from the facts of cchen-cc/MA-SAM, Apache-2.0",
        dice={24: 82.4, 6: 76.5, 3: 59.0},
        differs="LoRA of rank 64 is used and not FacT of rank 32, ViT-B and not ViT-H, the paper's decoder and not "
        "theirs; the adapters' last layers start at zero. The authors train on five slices of 512 x 512 at a time with "
        "AdamW at 8e-4, weight decay of 0.1, warm-up and a schedule of exponent 7.",
    )
    config = MASAM_CONFIG

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.masam import MASAM

        return MASAM(input_channels, num_classes, cls.config)
