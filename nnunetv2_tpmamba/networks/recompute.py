"""Compute again in the backward pass what is cheap to compute, instead of keeping it."""

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Of an input with at least so many values the rest is computed again; below, memory matters less than time. A plane of
# the demo's adapters has 90,000, one of SAM's 6 x 6 grid 330,000.
MANY_VALUES = 2**18


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return ``function(x)``, and of a large ``x`` keep nothing else for the backward pass.

    Args:
        function: draws no random numbers; its gradients go to ``x`` and to the parameters it uses.
    """
    if x.numel() < MANY_VALUES:
        return function(x)
    result: Tensor = checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
    return result
