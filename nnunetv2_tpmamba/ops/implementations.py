"""Which implementation of the selective scan runs on which device, decided by trying it there."""

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from . import loop
from .reference import selective_scan_reference


class Implementation(NamedTuple):
    """A forward and a backward as in :mod:`.loop`; ``note`` says why a faster one was not chosen, if it was not."""

    name: str
    forward: Callable[..., Tensor]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]
    note: str = ""


LOOP = Implementation("PyTorch loop", loop.scan_forward, loop.scan_backward)
FASTER = {"cpu": ("numba", "numba_cpu"), "cuda": ("mamba-ssm", "mamba_ssm")}  # name and module; float32 only


@lru_cache
def implementation_for(device_type: str, dtype: torch.dtype = torch.float32) -> Implementation:
    """The implementation to use on ``device_type`` (``"cpu"``, ``"cuda"``, ``"mps"``), tried once per process."""
    if device_type not in FASTER or dtype != torch.float32:
        return LOOP
    name, module_name = FASTER[device_type]
    try:
        module = importlib.import_module(f".{module_name}", __package__)
    except Exception as error:  # a broken installation can raise anything
        return LOOP._replace(note=f"{name} not used: {_first_line(error)}")
    implementation = Implementation(name, module.scan_forward, module.scan_backward)
    problem = why_unusable(implementation, torch.device(device_type))
    return LOOP._replace(note=f"{name} not used: {problem}") if problem else implementation


def why_unusable(implementation: Implementation, device: torch.device) -> str:
    """Run ``implementation`` on a small input: "" if its output is the reference's and its gradients are the loop's."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    inputs = [random(2, 9, 8), random(2, 9, 8), -random(8, 4), random(2, 9, 4), random(2, 9, 4), random(8)]
    grad_y = random(2, 9, 8)
    try:
        # the first call may come from inside the operator, where autograd records nothing: the loop has a backward
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            expected = (selective_scan_reference(*inputs), *loop.scan_backward(grad_y, *inputs))
            actual = (implementation.forward(*inputs), *implementation.backward(grad_y, *inputs))
            agrees = all(torch.allclose(a, e, rtol=1e-3, atol=1e-4) for a, e in zip(actual, expected, strict=True))
    except Exception as error:  # a broken CUDA build can raise anything
        return _first_line(error)
    return "" if agrees else "its result differs from the reference"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
