"""The decoder: it turns features of the last four blocks into one map per class at the input's resolution."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from .autocast import bounded
from .channels_last import LayoutKeepingGELU, LayoutKeepingInstanceNorm

NUM_FEATURES = 4  # paper section 2.1: "four feature maps from the last four blocks"
CONV = {
    "conv_op": nn.Conv3d,
    "norm_op": LayoutKeepingInstanceNorm,
    "norm_op_kwargs": {"affine": True},
    "nonlin": LayoutKeepingGELU,
    "kernel_size": 3,
    "stride": 1,
}


class Decoder(nn.Module):
    """Enlarge four feature maps in-plane, join them, and enlarge the result in-plane to the size of the input.

    Depth is never reduced.

    Source: paper section 2.2 "Decoder"; ``SAM_Decoder`` of the authors' code, with nnU-Net's bricks instead of MONAI's
    and half the channels at full resolution, where most of its work is.

    Args:
        embed_dim: channels of the features.
        num_classes: maps to predict, background included.
        dim: channels after the first enlargement; the last step has half of them.
        token_size: voxels on a side of a token, a power of two, at least 2.

    Shape:
        input four tensors ``(B, embed_dim, D, h, w)``; output ``(B, num_classes, D, token_size * h, token_size * w)``.

    Raises:
        ValueError: ``token_size`` is no power of two, or 1.
    """

    def __init__(self, embed_dim: int, num_classes: int, dim: int = 64, token_size: int = 8) -> None:
        super().__init__()
        if token_size < 2 or token_size & (token_size - 1):
            raise ValueError(f"token_size {token_size} must be a power of two, at least 2: each step enlarges by 2")
        num_steps = token_size.bit_length() - 2  # the branches have enlarged by 2
        dims = [dim] * num_steps + [dim // 2] if num_steps else [dim]
        self.branches = nn.ModuleList(UpConv(embed_dim, dim) for _ in range(NUM_FEATURES))
        self.join = BasicBlockD(input_channels=NUM_FEATURES * dim, output_channels=dim, **CONV)
        self.steps = nn.Sequential(
            *(
                nn.Sequential(UpConv(wide, dim), ConvDropoutNormReLU(input_channels=dim, output_channels=dim, **CONV))
                for wide, dim in pairwise(dims)
            )
        )
        # nnU-Net's -pretrained_weights does not load parameters whose name contains .seg_layers.
        self.seg_layers = nn.ModuleList([nn.Conv3d(dims[-1], num_classes, 1)])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = torch.cat([branch(bounded(f)) for branch, f in zip(self.branches, features, strict=True)], dim=1)
        x = self.steps(self.join(x))
        return self.seg_layers[0](x).contiguous()


class UpConv(nn.Sequential):
    """A transposed convolution that doubles H and W, instance norm, GELU; shape ``(B, C, D, H, W)``."""

    def __init__(self, input_channels: int, output_channels: int) -> None:
        super().__init__(
            nn.ConvTranspose3d(
                input_channels, output_channels, 3, stride=(1, 2, 2), padding=1, output_padding=(0, 1, 1), bias=False
            ),
            LayoutKeepingInstanceNorm(output_channels, affine=True),
            LayoutKeepingGELU(),
        )
