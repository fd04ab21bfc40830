"""The precision that a network computes in on a CPU: bfloat16 where the processor multiplies it natively."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from .device import is_for_cpu

VARIABLE = "TPMAMBA_CPU_PRECISION"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


_chosen: list[torch.dtype] = []


@contextmanager
def using(dtype: torch.dtype) -> Iterator[None]:
    """Let :func:`cpu_precision` return ``dtype`` while the ``with`` statement lasts."""
    _chosen.append(dtype)
    try:
        yield
    finally:
        _chosen.pop()


@torch.compiler.disable
def cpu_precision(training: bool) -> torch.dtype:
    """Return the dtype of matrix products and convolutions on this CPU.

    The environment variable ``TPMAMBA_CPU_PRECISION`` decides. Without it a network predicts in bfloat16 where the
    processor has instructions for it, and trains in float32.

    Raises:
        ValueError: the variable has another value than ``float32`` and ``bfloat16``.
    """
    if _chosen:
        return _chosen[-1]
    if named := os.environ.get(VARIABLE):
        if named not in PRECISIONS:
            raise ValueError(f"{VARIABLE} is {named!r}; set it to {' or '.join(PRECISIONS)}, or unset it")
        return PRECISIONS[named]
    return torch.bfloat16 if has_bfloat16() and not training else torch.float32


def name_of_cpu_precision(training: bool) -> str:
    """Return the key of ``PRECISIONS`` that :func:`cpu_precision` gives."""
    return next(name for name, dtype in PRECISIONS.items() if dtype == cpu_precision(training))


def describe_cpu_precision() -> str:
    """Return one sentence on what training and prediction compute in, for a log.

    Raises:
        ValueError: see :func:`cpu_precision`.
    """
    training, prediction = map(name_of_cpu_precision, (True, False))
    reason = f"set by {VARIABLE}" if os.environ.get(VARIABLE) else f"{VARIABLE} changes both"
    return f"Precision on this CPU: training in {training}, prediction in {prediction}; {reason}"


def has_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16, and torch the library that uses them."""
    # torch.cpu.get_capabilities says the same in public, but only since torch 2.11
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return native and has_onednn()


def has_onednn() -> bool:
    """Whether torch has oneDNN and may use it."""
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def in_cpu_precision(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Decorate a network's forward pass of one tensor: on a CPU it runs in :func:`cpu_precision`.

    Under autocast the same parts stay in float32 as on a GPU, input and result are float32, and so are the weights. On
    other devices, and under autocast of the caller's, nothing changes.
    """

    @wraps(forward, updated=())  # what torch.compiler notes in a function is of that function alone
    def forward_in_cpu_precision(network: Any, x: Tensor) -> Tensor:
        if not is_for_cpu(x) or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return forward(network, x)
        dtype = cpu_precision(network.training)
        if dtype == torch.float32:
            return forward(network, x)
        with torch.autocast("cpu", dtype):
            return forward(network, x).float()

    return forward_in_cpu_precision
