"""AdamW's parameter groups: what trains with weight decay, and what without."""

from collections.abc import Callable, Collection
from typing import Any

from timm.optim import param_groups_weight_decay
from torch import nn


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the parameters that train; vectors, biases and those that the network names get no weight decay.

    A network names parameters as timm's do, by ``no_weight_decay()``, which returns patterns of their names.
    """
    names_spared: Callable[[], Collection[str]] = getattr(network, "no_weight_decay", set)
    groups = param_groups_weight_decay(network, weight_decay, names_spared())
    return groups[::-1]  # checkpoints hold the decayed group first
