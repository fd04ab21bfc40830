"""The most memory that a call needs beyond what was there before it, in bytes."""

import ctypes
import gc
import re
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # Linux, proc(5): the process's peak of resident memory starts anew


class PeakMemory:
    """In a ``with`` statement: afterwards ``bytes`` is the peak above the start, None where it cannot be known.

    On CUDA what PyTorch allocated; on Linux the process's resident memory, so also what libraries allocate. Memory that
    was freed, but not yet given back, is given back first, and would otherwise be used unseen.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start: int | None = torch.cuda.memory_allocated(self.device)
        else:
            self._start = _resident() if _give_back_and_reset_peak() else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._start is None or error is not None:
            return
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _resident("VmHWM")
        self.bytes = max(0, peak - self._start)


def held_bytes(network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> int:
    """What a network's weights, their gradients and its optimiser's state take."""
    tensors = [*network.parameters(), *network.buffers()]
    tensors += [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if optimizer is not None:
        tensors += [x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
    return sum(x.numel() * x.element_size() for x in tensors)


def free(device: torch.device) -> None:
    """Give back what no tensor uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _give_back_and_reset_peak() -> bool:
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
        CLEAR.write_text(RESET_PEAK)
    except (OSError, AttributeError, TypeError):  # another system or C library, or a container that forbids it
        return False
    return True


def _resident(field: str = "VmRSS") -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None, f"{STATUS} has no {field}"
    return int(found.group(1)) * 1024
