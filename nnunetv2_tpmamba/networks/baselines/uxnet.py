"""3D UX-Net: a ConvNeXt of large depthwise convolutions as encoder, and MONAI's decoder of UNETR."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .monai import require_monai
from .patches import check_multiples


def build_uxnet(
    input_channels: int,
    num_classes: int,
    patch_size: tuple[int, ...],
    features_per_stage: Sequence[int] = (48, 96, 192, 384),
    blocks_per_stage: Sequence[int] = (2, 2, 2, 2),
) -> nn.Module:
    """3D UX-Net with random weights: our encoder, and MONAI's blocks on its skips and in its decoder; one output.

    Args:
        input_channels: of the volume.
        num_classes: maps to predict, background included.
        patch_size: voxels, ``(D, H, W)``; multiples of 16, at least 32.
        features_per_stage: channels of the encoder's stages, each twice the one before.
        blocks_per_stage: blocks of each stage.

    Shape:
        input ``(B, input_channels, D, H, W)``, output ``(B, num_classes, D, H, W)``.

    Raises:
        ImportError: MONAI is missing or too old.
        ValueError: the network cannot take the patch.

    Source: Lee et al., "3D UX-Net", ICLR 2023. Written from the paper and from facts about the authors' network, whose
    code has no licence: nothing is copied from it. Where that network differs from the paper's figure, the network is
    followed: the convolutions of kernel 1 in a block are depthwise, and a layer scale follows them.
    """
    check_patch_size(patch_size)
    require_monai()
    from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrUpBlock

    block: dict[str, Any] = {"spatial_dims": 3, "kernel_size": 3, "norm_name": "instance", "res_block": True}
    read = (input_channels, *features_per_stage)  # the channels of what the skips read
    made = (*features_per_stage, 2 * features_per_stage[-1])  # and of what they make
    finest = made[0]
    return UXNet(
        encoder=Encoder(input_channels, features_per_stage, blocks_per_stage),
        skips=[
            UnetrBasicBlock(in_channels=given, out_channels=wanted, stride=1, **block)
            for given, wanted in zip(read, made, strict=True)
        ],
        ups=[
            UnetrUpBlock(in_channels=coarse, out_channels=fine, upsample_kernel_size=2, **block)
            for coarse, fine in pairwise(reversed(made))
        ],
        refine=UnetrBasicBlock(in_channels=finest, out_channels=finest, stride=1, **block),
        head=UnetOutBlock(spatial_dims=3, in_channels=finest, out_channels=num_classes),
    )


def check_patch_size(patch_size: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for a patch that four halvings do not divide, or of which they leave a single voxel."""
    check_multiples(patch_size, 16, smallest=32)  # instance norm needs more than one voxel


class UXNet(nn.Module):
    """Encode a volume, refine it and the map of each stage, and merge the results from the coarsest to the finest.

    Args:
        encoder: makes one map per stage, each with half the sides of the one before.
        skips: the blocks that refine the volume and the maps, which keep their sides.
        ups: the blocks that double a map's sides and merge it with the next finer one, the coarsest first.
        refine, head: what follows at full resolution.

    Shape:
        see :func:`build_uxnet`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        skips: Sequence[nn.Module],
        ups: Sequence[nn.Module],
        refine: nn.Module,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.skips = nn.ModuleList(skips)
        self.ups = nn.ModuleList(ups)
        self.refine = refine
        self.head = head

    def forward(self, volume: Tensor) -> Tensor:
        maps = [volume, *self.encoder(volume)]
        *refined, x = (skip(each) for skip, each in zip(self.skips, maps, strict=True))
        for up, finer in zip(self.ups, reversed(refined), strict=True):
            x = up(x, finer)
        return self.head(self.refine(x))


class Encoder(nn.Module):
    """Halve a volume's sides once per stage, with a few blocks at each resolution.

    Args:
        input_channels: of the volume.
        features_per_stage: channels of the stages.
        blocks_per_stage: blocks of each stage.

    Shape:
        input ``(B, input_channels, D, H, W)``; output a list, ``(B, features, D / 2, H / 2, W / 2)`` first, each map
        after a layer norm of its own, which the next stage does not read.
    """

    def __init__(self, input_channels: int, features_per_stage: Sequence[int], blocks_per_stage: Sequence[int]) -> None:
        super().__init__()
        finest = features_per_stage[0]
        stem = nn.Sequential(nn.Conv3d(input_channels, finest, 7, stride=2, padding=3), ChannelNorm(finest))
        halvings = (
            nn.Sequential(ChannelNorm(fine), nn.Conv3d(fine, coarse, 2, stride=2))
            for fine, coarse in pairwise(features_per_stage)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(halving, *(UXBlock(features) for _ in range(blocks)))
            for halving, features, blocks in zip((stem, *halvings), features_per_stage, blocks_per_stage, strict=True)
        )
        self.norms = nn.ModuleList(ChannelNorm(features) for features in features_per_stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = stage(x)
            maps.append(norm(x))
        return maps


class UXBlock(nn.Module):
    """Add to a map what a depthwise convolution and two more of kernel 1 make of it, scaled by almost nothing at first.

    Every convolution is depthwise, so channels meet only in the layer norm.

    Args:
        channels: of the map.
        kernel_size: of the first convolution, in voxels.
        expansion: how many maps the second convolution makes of each.
        layer_scale: what each channel of the sum is multiplied with, at first.

    Shape:
        input and output ``(B, channels, D, H, W)``.
    """

    def __init__(self, channels: int, kernel_size: int = 7, expansion: int = 4, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv3d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels),
            ChannelNorm(channels),
            nn.Conv3d(channels, expansion * channels, 1, groups=channels),
            nn.GELU(),
            nn.Conv3d(expansion * channels, channels, 1, groups=channels),
        )
        self.layer_scale = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale[:, None, None, None] * self.branch(x)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every voxel; shape ``(B, channels, D, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
