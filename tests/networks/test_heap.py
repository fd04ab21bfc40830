"""Memory that is given back to the system: the process has less of it afterwards, and its tensors keep their values."""

import ctypes

import psutil
import pytest
import torch

from nnunetv2_tpmamba.networks import heap
from nnunetv2_tpmamba.networks.heap import give_back_freed_memory

MEGABYTE = 2**20


@pytest.fixture
def asked_again():
    heap._malloc_trim.cache_clear()
    yield
    heap._malloc_trim.cache_clear()


@pytest.mark.skipif(not give_back_freed_memory(), reason="the C library of this system cannot do it")
def test_the_system_gets_what_tensors_have_freed():
    """Half of the blocks, between the others, so that the heap cannot just become shorter."""
    blocks = [torch.full((MEGABYTE // 40,), float(i)) for i in range(4000)]  # small enough for the heap
    kept = blocks[::2]
    del blocks
    before = psutil.Process().memory_info().rss
    assert give_back_freed_memory()
    assert psutil.Process().memory_info().rss < before - 100 * MEGABYTE
    assert all(bool((block == 2 * i).all()) for i, block in enumerate(kept))


@pytest.mark.usefixtures("asked_again")
@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_a_c_library_that_cannot_is_left_alone(monkeypatch, error):
    def refuse(name):
        raise error("not here")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not give_back_freed_memory()
