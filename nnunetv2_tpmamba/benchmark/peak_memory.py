"""The most memory that a call takes in addition to what was in use before it, in bytes."""

import gc
from types import TracebackType

import psutil
import torch
from torch import nn

from nnunetv2_tpmamba.networks.heap import give_back_freed_memory
from nnunetv2_tpmamba.trainers.memory import peak_bytes, restart_peak


class PeakMemory:
    """Measure a ``with`` statement: its attribute ``bytes`` then is the peak minus the memory at the start.

    On a CUDA device this is the memory that PyTorch allocated. On a CPU it is the resident memory of the process, which
    includes the allocations of libraries; outside Linux the peak cannot be measured, and ``bytes`` is None. On a CPU
    all freed memory first goes back to the system, because a call that used it again would seem to take none.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        self._start: int | None = None
        if self.device.type == "cuda" and restart_peak(self.device):
            self._start = torch.cuda.memory_allocated(self.device)
        elif self.device.type == "cpu" and give_back_freed_memory() and restart_peak(self.device):
            self._start = psutil.Process().memory_info().rss
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._start is None or error is not None:
            return
        peak = peak_bytes(self.device)
        if peak is not None:
            self.bytes = max(0, peak - self._start)


def held_bytes(network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> int:
    """Count the bytes of a network's weights and buffers, their gradients, and its optimiser's state."""
    tensors = [*network.parameters(), *network.buffers()]
    tensors += [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if optimizer is not None:
        tensors += [x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
    return sum(x.numel() * x.element_size() for x in tensors)


def free(device: torch.device) -> None:
    """Give memory that no tensor uses any more back to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu":
        give_back_freed_memory()
