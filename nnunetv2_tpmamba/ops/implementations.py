"""Which implementation of the selective scan runs on which device, decided by trying it there."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from . import loop, mamba_ssm
from .reference import selective_scan_reference


class Implementation(NamedTuple):
    """A forward and a backward as in :mod:`.loop`; ``note`` says why a faster one was not chosen, if it was not."""

    name: str
    forward: Callable[..., Tensor]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]
    note: str = ""


LOOP = Implementation("PyTorch loop", loop.scan_forward, loop.scan_backward)
MAMBA_SSM = Implementation("mamba-ssm", mamba_ssm.scan_forward, mamba_ssm.scan_backward)


@lru_cache
def implementation_for(device_type: str) -> Implementation:
    """The implementation to use on ``device_type`` (``"cpu"``, ``"cuda"``, ``"mps"``), tried once per process."""
    if device_type != "cuda":
        return LOOP
    problem = why_unusable(MAMBA_SSM, torch.device(device_type))
    return LOOP._replace(note=f"mamba-ssm not used: {problem}") if problem else MAMBA_SSM


def why_unusable(implementation: Implementation, device: torch.device) -> str:
    """Run ``implementation`` on a small input and compare output and gradients with the reference; "" if they agree."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    inputs = [random(2, 9, 8), random(2, 9, 8), -random(8, 4), random(2, 9, 4), random(2, 9, 4), random(8)]
    try:
        leaves = [x.clone().requires_grad_() for x in inputs]
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            y = selective_scan_reference(*leaves)
            grad_y = torch.ones_like(y)
            expected = (y.detach(), *torch.autograd.grad(y, leaves, grad_y))
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            actual = (implementation.forward(*inputs), *implementation.backward(grad_y, *inputs))
    except Exception as error:  # a broken CUDA build can raise anything
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if not all(torch.allclose(a, e, rtol=1e-3, atol=1e-4) for a, e in zip(actual, expected, strict=True)):
        return "its result differs from the reference"
    return ""
