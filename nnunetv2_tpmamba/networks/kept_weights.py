"""Weights that are computed from a layer's own, such as casts, and kept until these change."""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, UntypedStorage, nn

from .device import is_for_cpu
from .linear import linear


class Kept(NamedTuple):
    """A computed weight and what it was computed from.

    Args:
        weight: in ``dtype``.
        storages, versions: of the tensors that it was computed from.
    """

    weight: Tensor
    dtype: torch.dtype
    storages: Sequence[UntypedStorage]
    versions: Sequence[int]

    def is_of(self, sources: Sequence[Tensor], dtype: torch.dtype) -> bool:
        return (
            self.dtype == dtype
            and self.versions == [x._version for x in sources]
            and all(kept is x.untyped_storage() for kept, x in zip(self.storages, sources, strict=True))
        )


_kept: WeakKeyDictionary[nn.Module, Kept] = WeakKeyDictionary()  # outside the modules, which are copied and pickled


class KeptLinear(nn.Linear):
    """A linear layer whose weight, where it does not change, is cast once; autocast would cast it at every call."""

    def train(self, mode: bool = True) -> "KeptLinear":
        _kept.pop(self, None)  # compiled training with a fused optimiser changes the weight without a trace
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, kept_weight(self, lambda: self.weight, (self.weight,)), self.bias)


def kept_weight(layer: nn.Module, compute: Callable[[], Tensor], sources: Sequence[Tensor]) -> Tensor:
    """Return ``compute()`` in the dtype of its use on a CPU, computed once for as long as ``sources`` stay the same.

    It is computed at every call where a gradient goes through it, on other devices, and where torch compiles.

    Args:
        layer: what it is kept for; one weight is kept for each layer.
        compute: makes it from ``sources`` alone.
        sources: weights of the layer. Changing them by way of ``.data`` in place goes unnoticed, and so does a fused
            optimiser of compiled code until the layer's ``train`` or ``eval`` is called.
    """
    if torch.compiler.is_compiling():
        return compute()
    # Fused optimisers change a weight that trains without a new version, and tensors of inference mode have no version.
    trained = torch.is_grad_enabled() and any(x.requires_grad for x in sources)
    if trained or not is_for_cpu(sources[0]) or any(x.is_inference() for x in sources):
        _kept.pop(layer, None)
        return compute()
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else sources[0].dtype
    kept = _kept.get(layer)
    if kept is None or not kept.is_of(sources, dtype):
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            weight = compute().to(dtype)
        kept = Kept(weight, dtype, [x.untyped_storage() for x in sources], [x._version for x in sources])
        _kept[layer] = kept
    return kept.weight
