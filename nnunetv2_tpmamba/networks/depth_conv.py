"""Convolutions along the depth of a stack of tokens, whose channels come last, as matrix products."""

from collections.abc import Iterable
from functools import reduce
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .channels_last import instance_norm
from .linear import linear


class DepthConv(nn.Sequential):
    """Convolve along depth alone, with zeros beyond the ends, then instance norm and GELU.

    Called, it computes this layer by layer: the plain reference of :func:`depth_convs`, which the network uses.

    Shape:
        input ``(B, input_channels, D, h, w)``; output ``(B, output_channels, D, h, w)``.
    """

    def __init__(self, input_channels: int, output_channels: int, kernel_size: int = 3, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv3d(
                input_channels,
                output_channels,
                (kernel_size, 1, 1),
                padding=(dilation * (kernel_size // 2), 0, 0),
                dilation=(dilation, 1, 1),
                bias=False,
            ),
            nn.InstanceNorm3d(output_channels, affine=True),
            nn.GELU(),
        )


def depth_convs(tokens: Tensor, convs: Iterable[nn.Module]) -> Tensor:
    """Apply several :class:`DepthConv` to the same tokens, and join their channels.

    It is one matrix product for the taps of all convolutions, one norm and one GELU. On a CPU, PyTorch takes longer to
    convolve with kernels of 3 x 1 x 1 one by one, in bfloat16 more than twice as long.

    Shape:
        input ``(B, D, h, w, input_channels)``; output ``(B, D, h, w, output_channels of all)``.
    """
    convs = list(convs)
    layers = [cast(nn.Conv3d, conv.get_submodule("0")) for conv in convs]
    norms = [cast(nn.InstanceNorm3d, conv.get_submodule("1")) for conv in convs]
    taps = torch.cat([rearrange(layer.weight, "out C taps 1 1 -> (taps out) C") for layer in layers])
    products = linear(tokens, taps).split([layer.kernel_size[0] * layer.out_channels for layer in layers], dim=-1)
    x = torch.cat([_sum_of_taps(product, layer) for product, layer in zip(products, layers, strict=True)], dim=-1)
    x = instance_norm(x, torch.cat([n.weight for n in norms]), torch.cat([n.bias for n in norms]), norms[0].eps)
    return F.gelu(x)


def _sum_of_taps(products: Tensor, layer: nn.Conv3d) -> Tensor:
    """Add up what each tap gives to a slice: ``(B, D, h, w, taps * out)`` to ``(B, D, h, w, out)``."""
    taps, dilation, D = layer.kernel_size[0], layer.dilation[0], products.shape[1]
    away = [(tap - taps // 2) * dilation for tap in range(taps)]  # slices between a tap and what it gives to
    each = zip(products.chunk(taps, dim=-1), away, strict=True)
    return reduce(torch.add, [_moved(product, slices) for product, slices in each if abs(slices) < D])


def _moved(x: Tensor, slices: int) -> Tensor:
    """Let each slice be the one that lies so many slices further, or zero beyond the ends."""
    return F.pad(x, (0, 0, 0, 0, 0, 0, -slices, slices)) if slices else x
