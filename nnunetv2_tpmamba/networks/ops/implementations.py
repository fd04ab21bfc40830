"""Which implementation of the selective scan runs on which device, decided by trying it there."""

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from . import loop
from .chunks import CHUNK
from .reference import selective_scan_reference


class Implementation(NamedTuple):
    """A forward and a backward as in :mod:`.loop`; ``note`` says why those before it were not chosen, if there are."""

    name: str
    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]
    max_d_state: int = sys.maxsize
    note: str = ""


LOOP = Implementation("PyTorch loop", loop.scan_forward, loop.scan_backward)
FASTER = {  # name and module of those to try before the loop, in this order; float32 only
    "cpu": [("numba", "numba_cpu")],
    "cuda": [("Triton", "triton_cuda"), ("mamba-ssm", "mamba_ssm")],
}


@lru_cache
def implementation_for(device_type: str, dtype: torch.dtype = torch.float32) -> Implementation:
    """The implementation to use on ``device_type`` (``"cpu"``, ``"cuda"``, ``"mps"``), tried once per process."""
    return LOOP if dtype != torch.float32 else next(_working(device_type))


def available_implementations(device_type: str) -> list[Implementation]:
    """All that work on ``device_type`` in float32, the one in use first."""
    return list(_working(device_type))


def _working(device_type: str) -> Iterator[Implementation]:
    problems: list[str] = []
    for name, module_name in FASTER.get(device_type, []):
        try:
            module = importlib.import_module(f".{module_name}", __package__)
            most = getattr(module, "MAX_D_STATE", sys.maxsize)
            implementation = Implementation(name, module.scan_forward, module.scan_backward, most, "; ".join(problems))
            problem = why_unusable(implementation, torch.device(device_type))
        except Exception as error:  # a broken installation can raise anything
            problem = first_line(error)
        if problem:
            problems.append(f"{name} not used: {problem}")
        else:
            yield implementation
    yield LOOP._replace(note="; ".join(problems))


def why_unusable(implementation: Implementation, device: torch.device) -> str:
    """Run ``implementation`` on a small input: "" if its output is the reference's and its gradients are the loop's."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    L, E, N = 2 * CHUNK + 3, 16, 16  # kernels are compiled for N and for whether 16 divides E: those of the network
    inputs = [random(2, L, E), random(2, L, E), -random(E, N), random(2, L, N), random(2, L, N), random(E)]
    grad_y = random(2, L, E)
    try:
        # the first call may come from inside the operator, where autograd records nothing: the loop has a backward
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            _, states = LOOP.forward(*inputs)
            expected = (selective_scan_reference(*inputs), *LOOP.backward(grad_y, *inputs, states))
            y, states = implementation.forward(*inputs)
            actual = (y, *implementation.backward(grad_y, *inputs, states))
            agrees = all(torch.allclose(a, e, rtol=1e-3, atol=1e-4) for a, e in zip(actual, expected, strict=True))
    except Exception as error:  # a broken CUDA build can raise anything
        return first_line(error)
    return "" if agrees else "its result differs from the reference"


def first_line(error: Exception) -> str:
    """What went wrong, for a line of a log or a table."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
