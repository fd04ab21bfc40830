"""TransBTS: a residual U-Net whose coarsest map is read by a transformer, one token per voxel."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from einops import rearrange
from timm.layers import Mlp
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from .patches import check_multiples

GROUPS = 8  # of every group norm


def build_transbts(input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
    """TransBTS in the sizes of its authors, with random weights.

    Args:
        input_channels: of the volume.
        num_classes: maps to predict, background included.
        patch_size: voxels, ``(D, H, W)``; a cube of multiples of 8, at least 16. The network takes no other.

    Shape:
        input ``(B, input_channels, *patch_size)``; output ``(B, num_classes, *patch_size)``.

    Raises:
        ValueError: the network cannot take the patch.

    Source: Wang et al., "TransBTS", MICCAI 2021; written from the facts of https://github.com/Wenxuan-1119/TransBTS
    (Apache-2.0), whose output it gives with the same weights. Left out are the softmax, and the layer norm and the
    linear layer (1,024 and, for one channel, 66,048 parameters) on which that output does not depend; their dropout of
    the first maps, which the authors' code also applies in evaluation, is of training only.
    """
    check_patch_size(patch_size)
    return TransBTS(input_channels, num_classes, patch_size)


def check_patch_size(patch_size: tuple[int, ...]) -> None:
    """Raise ``ValueError``, with a size that is good, for a patch that TransBTS cannot take."""
    # with 8 voxels on a side, batch norm would have to learn from a single voxel
    check_multiples(patch_size, 8, smallest=16, cube=True)


class TransBTS(nn.Module):
    """Encode a volume by convolutions, its coarsest map by a transformer, and decode with the maps of all resolutions.

    Args:
        input_channels, num_classes, patch_size: see :func:`build_transbts`.
        features_per_stage: channels of each resolution, the finest first; multiples of 8.
        blocks_per_stage: residual blocks of the encoder at each resolution.
        embed_dim: channels of the tokens.
        depth: number of transformer layers.
        num_heads: of each layer's attention.
        mlp_dim: channels inside each layer's MLP.
        dropout: in the transformer.
        input_dropout: share of the first convolution's maps that are dropped.

    Shape:
        see :func:`build_transbts`.

    Raises:
        ValueError: :meth:`forward` is given volumes of another size.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        patch_size: tuple[int, ...],
        features_per_stage: Sequence[int] = (16, 32, 64, 128),
        blocks_per_stage: Sequence[int] = (1, 2, 2, 4),
        embed_dim: int = 512,
        depth: int = 4,
        num_heads: int = 8,
        mlp_dim: int = 4096,
        dropout: float = 0.1,
        input_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        stride = 2 ** (len(features_per_stage) - 1)
        finest, *_, coarsest = features_per_stage
        stem = nn.Sequential(nn.Conv3d(input_channels, finest, 3, padding=1), nn.Dropout3d(input_dropout))
        strided = (nn.Conv3d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(features_per_stage))
        self.stages = nn.ModuleList(
            nn.Sequential(first, *(encoder_block(features) for _ in range(blocks)))
            for first, features, blocks in zip((stem, *strided), features_per_stage, blocks_per_stage, strict=True)
        )
        self.embed = nn.Sequential(
            nn.BatchNorm3d(coarsest), nn.ReLU(inplace=True), nn.Conv3d(coarsest, embed_dim, 3, padding=1)
        )
        num_tokens = prod(side // stride for side in patch_size)
        self.transformer = Transformer(num_tokens, embed_dim, depth, num_heads, mlp_dim, dropout)
        self.decoder = Decoder(features_per_stage, embed_dim, num_classes)

    def forward(self, volume: Tensor) -> Tensor:
        if volume.shape[2:] != self.patch_size:
            raise ValueError(
                f"volume of {tuple(volume.shape[2:])} voxels: this network has learned positions for patches of "
                f"{self.patch_size}; give it such patches"
            )
        maps = [volume]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        coarsest = self.embed(maps[-1])
        D, H, W = coarsest.shape[2:]
        tokens = self.transformer(rearrange(coarsest, "B C D H W -> B (D H W) C"))
        return self.decoder(maps[1:-1], rearrange(tokens, "B (D H W) C -> B C D H W", D=D, H=H, W=W))


class Transformer(nn.Sequential):
    """Add learned positions, which start at zero, and run layers that normalise first; shape ``(B, tokens, dim)``."""

    positions: nn.Parameter

    def __init__(self, num_tokens: int, dim: int, depth: int, num_heads: int, mlp_dim: int, dropout: float) -> None:
        after_attention = 1 - (1 - dropout) ** 2  # the authors' two dropouts in a row
        layers = (
            nn.Sequential(
                Residual(nn.LayerNorm(dim), Attention(dim, num_heads, attn_drop=dropout, proj_drop=after_attention)),
                Residual(nn.LayerNorm(dim), Mlp(dim, mlp_dim, drop=dropout)),
            )
            for _ in range(depth)
        )
        super().__init__(nn.Dropout(dropout), *layers)
        self.positions = nn.Parameter(torch.zeros(num_tokens, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens + self.positions)


class Decoder(nn.Module):
    """Enlarge the transformer's map step by step, each time with the encoder's map of that resolution.

    Args:
        features_per_stage: channels of the encoder's maps, the finest first.
        embed_dim: channels of the transformer's map.
        num_classes: maps to predict.
    """

    def __init__(self, features_per_stage: Sequence[int], embed_dim: int, num_classes: int) -> None:
        super().__init__()
        finest, *_, coarsest = features_per_stage
        self.narrow = nn.Sequential(*convolutions(embed_dim, coarsest), Residual(*convolutions(coarsest, coarsest)))
        self.steps = nn.ModuleList(UpCat(coarse, fine) for coarse, fine in pairwise(reversed(features_per_stage)))
        # nnU-Net's -pretrained_weights does not load parameters whose name contains .seg_layers.
        self.seg_layers = nn.Conv3d(finest, num_classes, 1)

    def forward(self, skips: Sequence[Tensor], coarsest: Tensor) -> Tensor:
        x = self.narrow(coarsest)
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = step(x, skip)
        return self.seg_layers(x)


class UpCat(nn.Module):
    """Double a map's sides, join it with the encoder's map of that resolution, and refine both together."""

    def __init__(self, input_channels: int, output_channels: int) -> None:
        super().__init__()
        self.enlarge = nn.Sequential(
            nn.Conv3d(input_channels, output_channels, 1),
            nn.ConvTranspose3d(output_channels, output_channels, 2, stride=2),
        )
        self.merge = nn.Sequential(
            nn.Conv3d(2 * output_channels, output_channels, 1),
            Residual(*convolutions(output_channels, output_channels)),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.merge(torch.cat((skip, self.enlarge(x)), dim=1))


class Residual(nn.Sequential):
    """Add to the input what a sequence of modules makes of it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def encoder_block(channels: int) -> Residual:
    """Twice group norm, ReLU and a convolution, added to the input."""
    return Residual(
        *(
            module
            for _ in range(2)
            for module in (
                nn.GroupNorm(GROUPS, channels),
                nn.ReLU(inplace=True),
                nn.Conv3d(channels, channels, 3, padding=1),
            )
        )
    )


def convolutions(input_channels: int, output_channels: int) -> list[nn.Module]:
    """Twice a convolution, batch norm and ReLU."""
    return [
        module
        for channels in (input_channels, output_channels)
        for module in (
            nn.Conv3d(channels, output_channels, 3, padding=1),
            nn.BatchNorm3d(output_channels),
            nn.ReLU(inplace=True),
        )
    ]
