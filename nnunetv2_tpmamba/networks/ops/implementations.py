"""The implementations of the selective scan, and the choice among them, made by trying them on the device."""

import importlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from . import loop
from .chunks import CHUNK
from .reference import selective_scan_reference


class Implementation(NamedTuple):
    """A forward and a backward pass as in :mod:`.loop`.

    Args:
        name: what it is called in messages.
        forward, backward: take and return what the functions of :mod:`.loop` do.
        gated: computes :func:`.gated.gated_scan` in one pass, without gradients; None if there is no such kernel.
        max_d_state: the most states per channel that it can hold.
        note: why the implementations that were tried before it are not used, if there are any.
    """

    name: str
    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]
    max_d_state: int = sys.maxsize
    note: str = ""
    gated: Callable[..., Tensor] | None = None


LOOP = Implementation("PyTorch loop", loop.scan_forward, loop.scan_backward)
FASTER = {  # name and module of each that is tried before the loop, in this order; they compute in float32 only
    "cpu": [("numba", "numba_cpu")],
    "cuda": [("Triton", "triton_cuda"), ("mamba-ssm", "mamba_ssm")],
}


Replacement = Callable[[Implementation], Implementation]
Result = TypeVar("Result")
_replacements: list[Replacement] = []  # of the whole process, since backward passes run in threads of their own


def implementation_for(device_type: str, dtype: torch.dtype = torch.float32, d_state: int = 0) -> Implementation:
    """Choose the implementation to use on ``device_type`` (``"cpu"``, ``"cuda"``, ``"mps"``) for so many states."""
    chosen = first_working(device_type) if dtype == torch.float32 else LOOP
    for replacement in _replacements:
        chosen = replacement(chosen)
    return chosen if d_state <= chosen.max_d_state else LOOP


@contextmanager
def using(replacement: Replacement) -> Iterator[None]:
    """Run all scans of the process, in every thread, on another implementation while the ``with`` statement lasts.

    Args:
        replacement: is given the implementation that would run, and returns the one to run instead.
    """
    _replacements.append(replacement)
    try:
        yield
    finally:
        _replacements.remove(replacement)


@cache
def first_working(device_type: str) -> Implementation:
    """Find the fastest implementation that works on ``device_type`` in float32; they are tried once per process."""
    return next(_working(device_type))


def available_implementations(device_type: str) -> list[Implementation]:
    """Find all implementations that work on ``device_type`` in float32, the fastest first."""
    return list(_working(device_type))


def _working(device_type: str) -> Iterator[Implementation]:
    problems: list[str] = []
    for name, module_name in FASTER.get(device_type, []):
        try:
            module = importlib.import_module(f".{module_name}", __package__)
            most = getattr(module, "MAX_D_STATE", sys.maxsize)
            gated = getattr(module, "gated_forward", None)
            note = "; ".join(problems)
            implementation = Implementation(name, module.scan_forward, module.scan_backward, most, note, gated)
            problem = in_no_mode(device_type, partial(why_unusable, implementation, torch.device(device_type)))
        except Exception as error:  # a broken installation can raise anything
            problem = first_line(error)
        if problem:
            problems.append(f"{name} not used: {problem}")
        else:
            yield implementation
    yield LOOP._replace(note="; ".join(problems))


def in_no_mode(device_type: str, trial: Callable[[], Result]) -> Result:
    """Call ``trial``, for a CPU in a thread of its own: there PyTorch is in no mode, such as that of fake tensors.

    Not for a GPU, because another thread would use the first one, whichever the process has chosen.
    """
    if device_type != "cpu":
        return trial()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(trial).result()


def why_unusable(implementation: Implementation, device: torch.device) -> str:
    """Run ``implementation`` on a small input, and say what is wrong with it; "" if nothing is.

    Its outputs must agree with the reference's, and its gradients with the loop's.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    # Kernels are compiled for one N, and for channels that 16 divides or does not: these are as in the network.
    L, E, N = 2 * CHUNK + 3, 16, 16
    inputs = [random(2, L, E), random(2, L, E), -random(E, N), random(2, L, N), random(2, L, N), random(E)]
    grad_y = random(2, L, E)
    try:
        # The first call may come from inside the operator, where autograd records nothing: only the loop's own backward
        # pass gives the expected gradients there.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            _, states = LOOP.forward(*inputs)
            expected = [selective_scan_reference(*inputs), *LOOP.backward(grad_y, *inputs, states)]
            y, states = implementation.forward(*inputs)
            actual = [y, *implementation.backward(grad_y, *inputs, states)]
            if implementation.gated is not None:
                u, step, *others = inputs
                expected.append(selective_scan_reference(u, F.softplus(step), *others) * F.silu(grad_y))
                actual.append(implementation.gated(*inputs, grad_y))
            agrees = all(torch.allclose(a, e, rtol=1e-3, atol=1e-4) for a, e in zip(actual, expected, strict=True))
    except Exception as error:  # a broken CUDA build can raise anything
        return first_line(error)
    return "" if agrees else "its result differs from the reference"


def first_line(error: Exception) -> str:
    """Shorten an error to its kind and the first line of its text, for a line of a log or a table."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
