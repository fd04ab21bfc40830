"""The Mamba block, with the parameter names, shapes and initialisation of mamba_ssm's ``Mamba``."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from .linear import Linear
from .ops import causal_conv, gated_scan
from .recompute import recomputed

MANY_VALUES = 2**18
"""Of a sequence with so many values nothing else is kept for the backward pass. A plane of the demo's adapters has
90,000, one of SAM's on a 6 x 6 grid 330,000."""


class MambaBlock(nn.Module):
    """Mix a sequence causally: gate, short depthwise convolution, selective scan.

    Everything is computed in float32 under any autocast. Scan outputs overflow fp16, so a caller should normalise the
    result before it leaves float32. Of a large input nothing else is kept for the backward pass: as in mamba_ssm, a
    dozen tensors of width E are cheaper to compute again than to hold.

    Source: Gu and Dao, "Mamba", 2023, section 3.4 and figure 3; paper figure 3; ``Mamba`` of mamba_ssm. State dicts of
    that class load here, and state dicts of this class load there.

    Args:
        d_model: channels of the sequence.
        d_state: states per channel (N).
        d_conv: taps of the depthwise convolution.
        expand: the inner width E is ``expand * d_model``.

    Shape:
        input ``(batch, L, d_model)``; output the same, float32 (float64 for float64 parameters).
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)
        self.in_proj = Linear(d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner)
        self.x_proj = Linear(d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = Linear(self.dt_rank, d_inner)
        self.A_log = nn.Parameter(torch.log(repeat(torch.arange(1.0, d_state + 1), "N -> E N", E=d_inner)).contiguous())
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = Linear(d_inner, d_model, bias=False)
        self._initialise_step_size()

    def _initialise_step_size(self, smallest: float = 1e-3, largest: float = 1e-1) -> None:
        """Draw step sizes log-uniformly from ``[smallest, largest]``, as mamba_ssm does."""
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        step = torch.exp(torch.empty_like(self.dt_proj.bias).uniform_(math.log(smallest), math.log(largest)))
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus

    def forward(self, sequence: Tensor) -> Tensor:
        with torch.autocast(sequence.device.type, enabled=False):
            return recomputed(self._forward, sequence.to(self.A_log.dtype), MANY_VALUES)

    def _forward(self, sequence: Tensor) -> Tensor:
        u, gate = self.in_proj(sequence).chunk(2, dim=-1)
        u = F.silu(causal_conv(u, self.conv1d.weight, cast(Tensor, self.conv1d.bias)))
        dt, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        y = gated_scan(u, self.dt_proj(dt), -torch.exp(self.A_log), B, C, self.D, gate)
        return self.out_proj(y)
