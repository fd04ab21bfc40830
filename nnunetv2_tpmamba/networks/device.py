"""The kind of device that a network computes on, or that it is counted for on tensors without data."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_counted_for: list[str] = []


@contextmanager
def counted_for(device_type: str) -> Iterator[None]:
    """Let all networks of the process compute as on a device of this type while the ``with`` statement lasts.

    PyTorch cannot run a network on tensors without data of a device that is not there. So a CPU's stand for those of
    any device when memory or operations are counted.

    Args:
        device_type: ``"cpu"``, ``"cuda"``, ``"mps"``.
    """
    _counted_for.append(device_type)
    try:
        yield
    finally:
        _counted_for.pop()


def is_for_cpu(x: Tensor) -> bool:
    """Whether ``x`` is computed with on a CPU, and does not stand for a tensor of another device."""
    return x.device.type == "cpu" and (not _counted_for or _counted_for[-1] == "cpu")
