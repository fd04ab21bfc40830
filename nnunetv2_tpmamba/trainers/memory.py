"""How much memory a training step needs, how much is free, and how much was taken at most."""

import copy
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from nnunetv2_tpmamba.networks.tpmamba import TPMamba


MARGIN = 1.25  # for what counting tensors does not see: workspaces of convolutions, fragmentation, the loss
SMALLEST_COUNTED = 2**16  # bytes; smaller tensors do not fill a card
STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
OOM_SCORE = Path("/proc/self/oom_score_adj")  # proc(5): whom the system ends if memory runs out


def decide_checkpointing(
    network: "TPMamba", shape: tuple[int, ...], device_type: str, free: int | None, advice: str
) -> str:
    """Switch ``network.checkpointing`` on if a step without it may not fit into ``free`` bytes, else off; say why.

    Args:
        network, shape, device_type: see :func:`training_step_bytes`.
        free: see :func:`free_bytes`.
        advice: what to do if even recomputing may need too much.
    """
    network.checkpointing = False
    if free is None:
        return "off; the free memory is not known here"
    plain = training_step_bytes(network, shape, device_type)
    if plain * MARGIN <= free:
        return f"off; a training step needs about {_gb(plain)}, {_gb(free)} are free"
    network.checkpointing = True
    checkpointed = training_step_bytes(network, shape, device_type)
    decision = (
        f"on; a training step needs about {_gb(plain)} without and {_gb(checkpointed)} with it, {_gb(free)} are free"
    )
    if checkpointed * MARGIN > free:
        decision += f". This may be too little: free memory, or {advice}"
    return decision


def training_step_bytes(network: nn.Module, shape: tuple[int, ...], device_type: str) -> int:
    """Peak memory of forward, backward and AdamW, counted on tensors without data; takes seconds and no memory.

    A device needs more than these tensors; ``MARGIN`` allows for that.

    Args:
        network: on any device, not compiled; it stays as it is.
        shape: of the batch, ``(B, input_channels, D, H, W)``.
        device_type: where the step is to be taken, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    from nnunetv2_tpmamba.networks.device import counted_for  # looking a trainer up imports no network

    with FakeTensorMode(), _LiveStorages() as storages, counted_for(device_type):
        twin = without_data(network)
        with torch.autocast("cpu", dtype=torch.float16, enabled=device_type == "cuda"):  # as nnU-Net trains
            outputs: Tensor | Sequence[Tensor] = twin(torch.empty(shape))
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs  # several with deep supervision
        torch.stack([logits.float().log_softmax(1).sum() for logits in outputs]).sum().backward()
        trained = sum(p.nbytes for p in twin.parameters() if p.requires_grad)
    return storages.peak + 2 * trained  # AdamW's two moments


def without_data(network: nn.Module) -> nn.Module:
    """Copy a network within a ``FakeTensorMode``; the copy's tensors have no data, and stand for a CPU's.

    Args:
        network: on any device, the meta device included; it stays as it is.
    """
    plain = [x for module in network.modules() for x in vars(module).values() if isinstance(x, Tensor)]  # as MONAI's
    empty: dict[int, Tensor] = {id(x): torch.empty(x.shape, dtype=x.dtype) for x in (*network.buffers(), *plain)}
    empty |= {id(p): nn.Parameter(torch.empty(p.shape, dtype=p.dtype), p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, empty)  # the memo of deepcopy: tensors to take instead of copies


def free_bytes(device: torch.device) -> int | None:
    """Memory that this process can still have on ``device``; None where that cannot be asked."""
    if device.type == "cuda":
        unused_cache = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused_cache
    if device.type in ("cpu", "mps"):  # a Mac's GPU has no memory of its own
        return psutil.virtual_memory().available
    return None


def restart_peak(device: torch.device) -> bool:
    """Let :func:`peak_bytes` count from now on; return whether the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    if device.type != "cpu" or not CLEAR_REFS.exists():
        return False
    try:
        CLEAR_REFS.write_text("5")  # the peak becomes what is resident now
    except OSError:  # some containers have a /proc that cannot be written to
        return False
    return True


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that this process has had on ``device`` so far; None where that cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes() if device.type == "cpu" else None


def die_first() -> None:
    """Let the system end this process before others if memory runs out, where it can be asked to."""
    with suppress(OSError):  # another system, or a container with another /proc
        OOM_SCORE.write_text("1000")


def peak_resident_bytes() -> int | None:
    """The most memory that this process has had resident so far; None where the system does not say."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux ru_maxrss would also count the process that started this one.
    found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE) if STATUS.is_file() else None
    return int(found[1]) * 1024 if found else None


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


class _LiveStorages(TorchDispatchMode):
    """Follows which tensors are alive; ``peak`` is the most bytes they had together."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        storages = [x.untyped_storage() for x in tree_leaves(result) if isinstance(x, Tensor)]
        new = {StorageWeakRef(s): s.nbytes() for s in storages if s.nbytes() >= SMALLEST_COUNTED}
        if new.keys() - self.alive.keys():
            self.alive = {ref: size for ref, size in self.alive.items() if not ref.expired()} | new
            self.peak = max(self.peak, sum(self.alive.values()))
        return result
