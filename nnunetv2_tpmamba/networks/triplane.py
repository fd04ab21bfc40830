"""The tri-plane Mamba adapter, which lets a slice encoder see the third dimension."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .autocast import bounded
from .depth_conv import DepthConv, depth_convs
from .mamba import MambaBlock

PLANES = {
    "hw": "b D h w c -> (b D) (h w) c",  # every slice
    "dw": "b D h w c -> (b h) (D w) c",  # every row, along depth
    "dh": "b D h w c -> (b w) (D h) c",  # every column, along depth
    "volume": "b D h w c -> b (D h w) c",  # all tokens, slice after slice
}


class PlaneMamba(nn.Module):
    """Read the tokens of one plane as sequences with a Mamba block, then layer norm and GELU.

    All of it runs in float32 under any autocast: scan outputs overflow fp16, and the layer norm bounds them before they
    leave.

    Source: paper equation 3 and figure 3; layer norm and GELU from the authors' code.

    Args:
        plane: ``"hw"``, ``"dw"`` or ``"dh"``, the two axes unrolled into one sequence, or ``"volume"`` for all three.
        dim: channels.
        d_state, d_conv, expand: see :class:`~nnunetv2_tpmamba.networks.mamba.MambaBlock`.
        backward: read the sequences from their last token to their first.

    Shape:
        input ``(B, D, h, w, dim)``; output the same, float32 also under autocast.
    """

    def __init__(
        self, plane: str, dim: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, backward: bool = False
    ) -> None:
        super().__init__()
        self.unroll = PLANES[plane]
        self.backward = backward
        self.mamba = MambaBlock(d_model=dim, d_state=d_state, d_conv=d_conv, expand=expand)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        b, D, h, w, _ = tokens.shape
        before, after = self.unroll.split(" -> ")
        sequences = rearrange(tokens, self.unroll)
        sequences = self.mamba(sequences.flip(1)).flip(1) if self.backward else self.mamba(sequences)
        with torch.autocast(tokens.device.type, enabled=False):
            sequences = F.gelu(self.norm(sequences))
        return rearrange(sequences, f"{after} -> {before}", b=b, D=D, h=h, w=w)


class TriPlaneMamba(nn.Module):
    """Let the tokens of a stack of slices exchange information along three planes.

    The stack is narrowed to ``hidden_dim`` channels, mixed along depth at several dilations, read once per plane by a
    Mamba block of its own; the readings are added, widened back and added to the input. The widening layer starts at
    zero, so a fresh adapter returns its input unchanged.

    Source: Wang et al., MICCAI 2024, section 2.2, equation 3 and figure 2(c), with the changes of tables 2 to 4; norms
    and activations from the authors' code. That a plane is also read backwards is in no table.

    Args:
        embed_dim: channels of the SAM tokens.
        hidden_dim: channels inside the adapter (the paper's r), a multiple of the number of dilations.
        conv_kernel: slices that each convolution along depth reads, an odd number.
        dilations: dilation of each of the parallel depth convolutions; without any, the narrowed stack is read as it
            is.
        planes: names of :data:`PLANES`; without any, the mixed stack is widened as it is.
        bidirectional: read each plane also backwards, by another Mamba block of its own.
        d_state, d_conv, expand: see :class:`~nnunetv2_tpmamba.networks.mamba.MambaBlock`.

    Shape:
        input and output ``(B, D, h, w, embed_dim)``.

    Raises:
        ValueError: numbers or planes other than these.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int = 96,
        conv_kernel: int = 3,
        dilations: Sequence[int] = (1, 2, 4, 8),
        planes: Sequence[str] = ("hw", "dw", "dh"),
        bidirectional: bool = False,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__()
        _check(hidden_dim, conv_kernel, dilations, planes)
        self.narrow = DepthConv(embed_dim, hidden_dim, conv_kernel)
        self.multi_scale = nn.ModuleList(
            DepthConv(hidden_dim, hidden_dim // len(dilations), conv_kernel, dilation) for dilation in dilations
        )
        read = partial(PlaneMamba, dim=hidden_dim, d_state=d_state, d_conv=d_conv, expand=expand)
        self.planes = nn.ModuleDict({plane: read(plane) for plane in planes})
        if bidirectional:
            self.planes.update({f"{plane}_backward": read(plane, backward=True) for plane in planes})
        self.widen = nn.Conv3d(hidden_dim, embed_dim, (conv_kernel, 1, 1), padding=(conv_kernel // 2, 0, 0), bias=False)
        nn.init.zeros_(self.widen.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        x = depth_convs(bounded(tokens), [self.narrow])
        if len(self.multi_scale):
            x = depth_convs(x, self.multi_scale)
        if len(self.planes):
            x = sum(plane(x) for plane in self.planes.values())
        widened = self.widen(rearrange(x, "B D h w r -> B r D h w"))
        return tokens + rearrange(widened, "B C D h w -> B D h w C")


def _check(hidden_dim: int, conv_kernel: int, dilations: Sequence[int], planes: Sequence[str]) -> None:
    if conv_kernel < 1 or conv_kernel % 2 == 0:
        raise ValueError(f"conv_kernel {conv_kernel}: it must be an odd number of slices, such as 1, 3 or 5")
    if any(dilation < 1 for dilation in dilations):
        raise ValueError(f"dilations {tuple(dilations)}: each must be at least 1; () leaves these convolutions out")
    if dilations and hidden_dim % len(dilations):
        raise ValueError(f"hidden_dim {hidden_dim} must be a multiple of {len(dilations)}, the number of dilations")
    if not set(planes) <= PLANES.keys() or len(set(planes)) < len(planes):
        raise ValueError(
            f"planes {tuple(planes)}: each must be one of {', '.join(PLANES)}, at most once; () means no Mamba"
        )
