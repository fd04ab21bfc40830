"""AdamW as the testbed uses it: what trains with weight decay, and what without."""

from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn

SPARED = (
    "*A_log",  # of Mamba, as its authors do
    "*positions",  # and the other learned positions of the networks here, as timm does
    "*pos_embed",
    "*position_embeddings",
    "*relative_position_bias_table",
    "*rel_pos_[hw]",
)
"""Patterns of the names of parameters that weight decay spares, beside vectors and biases."""


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the parameters that train; vectors, biases and :data:`SPARED` get no weight decay, in whatever network."""
    groups = param_groups_weight_decay(network, weight_decay, SPARED)
    return groups[::-1]  # checkpoints hold the decayed group first


def build_optimizer(network: nn.Module, initial_lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Build AdamW for the parameters that train; PyTorch's fused one, which takes fewer operations."""
    return torch.optim.AdamW(parameter_groups(network, weight_decay), lr=initial_lr, fused=True)
