"""Low-rank adaptation of the fused query-key-value projection."""

import math

import torch
from torch import Tensor, nn

from .kept_weights import KeptLinear, kept_weight
from .linear import linear


class LoRAQKV(KeptLinear):
    """A fused qkv projection, usually frozen, whose q and v learn a low-rank correction.

    ``q = W_q x + b_q + B_q A_q x``, likewise v; k is left alone. B starts at zero, so a fresh module is the plain
    projection. It is a ``nn.Linear`` with four parameters more than the projection, so a SAM state dict loads without
    renaming. In evaluation mode the corrections are merged into the projection, which saves their cost.

    Source: Hu et al., "LoRA", 2022, with alpha = rank; paper section 2.1. The authors' code puts a GELU between A and
    B; the paper cites plain LoRA, and plain LoRA merges exactly.

    Args:
        embed_dim: channels of the input; the output has three times as many.
        rank: rank of each correction.
        frozen: the projection itself is not trained.

    Shape:
        input ``(..., embed_dim)``; output ``(..., 3 * embed_dim)``.
    """

    def __init__(self, embed_dim: int, rank: int, frozen: bool = True) -> None:
        super().__init__(embed_dim, 3 * embed_dim)
        self.requires_grad_(not frozen)  # the corrections, added below, are always trained
        self.lora_a_q = nn.Parameter(torch.empty(rank, embed_dim))
        self.lora_b_q = nn.Parameter(torch.zeros(embed_dim, rank))
        self.lora_a_v = nn.Parameter(torch.empty(rank, embed_dim))
        self.lora_b_v = nn.Parameter(torch.zeros(embed_dim, rank))
        for a in (self.lora_a_q, self.lora_a_v):
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return linear(x, kept_weight(self, self.merged_weight, list(self.parameters())), self.bias)
        q, k, v = super().forward(x).chunk(3, dim=-1)
        # one product, because under autocast each would keep a cast of x of its own
        for_q, for_v = linear(x, torch.cat([self.lora_a_q, self.lora_a_v])).chunk(2, dim=-1)
        return torch.cat([q + linear(for_q, self.lora_b_q), k, v + linear(for_v, self.lora_b_v)], dim=-1)

    def merged_weight(self) -> Tensor:
        """Compute the one matrix that does the same; it is in no checkpoint."""
        q, k, v = self.weight.chunk(3)
        return torch.cat([q + self.lora_b_q @ self.lora_a_q, k, v + self.lora_b_v @ self.lora_a_v])
