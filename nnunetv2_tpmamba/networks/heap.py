"""The heap of the process, where memory that tensors have freed stays until it is given back to the system."""

import ctypes
import platform
from collections.abc import Callable
from functools import cache


def give_back_freed_memory() -> bool:
    """Give the system what the process has freed in main memory; return whether the C library can do that.

    Only glibc does, Linux's usual C library. It needs this, because it reuses few freed blocks for tensors. Memory that
    is given back has to be fetched again, which takes time. On ARM processors PyTorch has an allocator of its own,
    which decides for itself.
    """
    trim = _malloc_trim()
    if trim is None:
        return False
    trim(0)
    return True


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if platform.machine() == "aarch64":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another system or C library
        return None
