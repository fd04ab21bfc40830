"""The tri-plane Mamba adapter, which lets a slice encoder see the third dimension."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .autocast import bounded
from .mamba import MambaBlock

PLANES = {
    "hw": "b D h w c -> (b D) (h w) c",  # every slice
    "dw": "b D h w c -> (b h) (D w) c",  # every row, along depth
    "dh": "b D h w c -> (b w) (D h) c",  # every column, along depth
}


class PlaneMamba(nn.Module):
    """Read the tokens of one plane as sequences with a Mamba block, then layer norm and GELU.

    All of it runs in float32 under any autocast: scan outputs overflow fp16, and the layer norm bounds them before they
    leave.

    Source: paper equation 3 and figure 3; layer norm and GELU from the authors' code.

    Args:
        plane: ``"hw"``, ``"dw"`` or ``"dh"``, the two axes unrolled into one sequence.
        dim: channels.
        d_state, d_conv, expand: see :class:`~nnunetv2_tpmamba.networks.mamba.MambaBlock`.

    Shape:
        input ``(B, D, h, w, dim)``; output the same, float32 also under autocast.
    """

    def __init__(self, plane: str, dim: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.unroll = PLANES[plane]
        self.mamba = MambaBlock(d_model=dim, d_state=d_state, d_conv=d_conv, expand=expand)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        b, D, h, w, _ = tokens.shape
        before, after = self.unroll.split(" -> ")
        sequences = self.mamba(rearrange(tokens, self.unroll))
        with torch.autocast(tokens.device.type, enabled=False):
            sequences = F.gelu(self.norm(sequences))
        return rearrange(sequences, f"{after} -> {before}", b=b, D=D, h=h, w=w)


class TriPlaneMamba(nn.Module):
    """Let the tokens of a stack of slices exchange information along three planes.

    The stack is narrowed to ``hidden_dim`` channels, mixed along depth at several dilations, read once per plane by a
    Mamba block of its own; the three readings are added, widened back and added to the input. The widening layer starts
    at zero, so a fresh adapter returns its input unchanged.

    Source: Wang et al., MICCAI 2024, section 2.2, equation 3 and figure 2(c); norms and activations from the authors'
    code.

    Args:
        embed_dim: channels of the SAM tokens.
        hidden_dim: channels inside the adapter (the paper's r), a multiple of the number of dilations.
        dilations: dilation of each of the parallel depth convolutions.
        d_state, d_conv, expand: see :class:`~nnunetv2_tpmamba.networks.mamba.MambaBlock`.

    Shape:
        input and output ``(B, D, h, w, embed_dim)``.

    Raises:
        ValueError: ``hidden_dim`` is not a multiple of the number of dilations.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int = 96,
        dilations: Sequence[int] = (1, 2, 4, 8),
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__()
        if hidden_dim % len(dilations):
            raise ValueError(f"hidden_dim {hidden_dim} must be a multiple of {len(dilations)}, the number of dilations")
        self.narrow = DepthConv(embed_dim, hidden_dim)
        self.multi_scale = nn.ModuleList(
            DepthConv(hidden_dim, hidden_dim // len(dilations), dilation) for dilation in dilations
        )
        self.planes = nn.ModuleDict(
            {
                plane: PlaneMamba(plane=plane, dim=hidden_dim, d_state=d_state, d_conv=d_conv, expand=expand)
                for plane in PLANES
            }
        )
        self.widen = nn.Conv3d(hidden_dim, embed_dim, (3, 1, 1), padding=(1, 0, 0), bias=False)
        nn.init.zeros_(self.widen.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.narrow(rearrange(bounded(tokens), "B D h w C -> B C D h w"))
        x = torch.cat([conv(x) for conv in self.multi_scale], dim=1)
        x = rearrange(x, "B r D h w -> B D h w r")
        x = sum(plane(x) for plane in self.planes.values())
        x = self.widen(rearrange(x, "B D h w r -> B r D h w"))
        return tokens + rearrange(x, "B C D h w -> B D h w C")


class DepthConv(nn.Sequential):
    """Convolve along depth with a kernel of 3 x 1 x 1 and zeros beyond the ends, then instance norm and GELU.

    Shape:
        input ``(B, input_channels, D, h, w)``; output ``(B, output_channels, D, h, w)``.
    """

    def __init__(self, input_channels: int, output_channels: int, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv3d(
                input_channels,
                output_channels,
                (3, 1, 1),
                padding=(dilation, 0, 0),
                dilation=(dilation, 1, 1),
                bias=False,
            ),
            InstanceNorm(output_channels, affine=True),
            nn.GELU(),
        )


class InstanceNorm(nn.InstanceNorm3d):
    """PyTorch's instance norm, except that a single voxel, which PyTorch refuses, is normalised to its own mean."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, True)
