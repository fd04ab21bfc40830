"""U-Mamba, a row of table 1, with a Mamba layer at the bottleneck, after every stage of the encoder, or nowhere."""

from dataclasses import replace
from typing import Any, Literal

from torch import nn

from .baselines import nnUNetTrainerTestbed_nnUNet
from .row import Row


class nnUNetTrainerTestbed_UMambaBot(nnUNetTrainerTestbed_nnUNet):
    """Ma et al., "U-Mamba", 2024; its residual U-Net with a Mamba layer at the bottleneck, planned as nnU-Net's."""

    row = Row(
        table="table 1",
        name="U-Mamba Bot",
        source="written from the facts of bowang-lab/U-Mamba, Apache-2.0",
        dice={24: 81.9, 6: 68.6, 3: 50.0},
        differs="The paper prints U-Mamba and does not say whether Bot or Enc, so its Dice stands with both. The "
        "authors train with SGD at 1e-2 on batches of at least 2. The residual stream is float32 under fp16 autocast.",
    )
    mamba: Literal["bottleneck", "encoder", "none"] = "bottleneck"

    @classmethod
    def build_topology(
        cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...], topology: dict[str, Any]
    ) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.umamba import build_umamba

        sizes = {name: topology["arch_kwargs"][name] for name in ("features_per_stage", "strides", "kernel_sizes")}
        return build_umamba(input_channels, num_classes, patch_size, mamba=cls.mamba, **sizes)


class nnUNetTrainerTestbed_UMambaEnc(nnUNetTrainerTestbed_UMambaBot):
    """Ma et al., "U-Mamba", 2024; as nnUNetTrainerTestbed_UMambaBot, with a Mamba layer after each encoder stage."""

    row = replace(
        nnUNetTrainerTestbed_UMambaBot.row,
        name="U-Mamba Enc",
        differs="As U-Mamba Bot. It takes patches of the testbed's size only, because its last Mamba layer has weights "
        "for single voxels.",
    )
    mamba = "encoder"


class nnUNetTrainerTestbed_UMambaNone(nnUNetTrainerTestbed_UMambaBot):
    """U-Mamba without its Mamba layer, the control that shows what the layer adds to the residual U-Net around it."""

    row = Row(
        table="table 1",
        name="U-Mamba without Mamba",
        source="as U-Mamba Bot",
        dice={},
        differs="The paper does not have this control; nnU-Net Revisited (MICCAI 2024) found it as good as U-Mamba.",
    )
    mamba = "none"
