"""Compute again in the backward pass what is cheap to compute, instead of keeping it."""

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor, many: int) -> Tensor:
    """Return ``function(x)``, and of a large ``x`` keep nothing else for the backward pass.

    Args:
        function: draws no random numbers; its gradients go to ``x`` and to the parameters it uses.
        many: values from which on ``x`` is large, so that memory matters more than time.
    """
    if x.numel() < many:
        return function(x)
    result: Tensor = checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
    return result
