"""What is optimised how: AdamW's parameter groups."""

from collections.abc import Callable, Collection
from typing import Any

from timm.optim import param_groups_weight_decay
from torch import nn


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups of what trains; vectors, biases and what the network names itself are spared weight decay.

    A network names them as timm's networks do, by ``no_weight_decay()``, which returns patterns of parameter names.
    """
    names_spared: Callable[[], Collection[str]] = getattr(network, "no_weight_decay", set)
    groups = param_groups_weight_decay(network, weight_decay, names_spared())
    return groups[::-1]  # checkpoints hold the decayed group first
