"""Which implementation of the selective scan runs: it works here, or a caller asked for it."""

import errno
import importlib
import re
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numba
import pytest
import torch
from numba.core.caching import CacheImpl, IndexDataCacheFile
from support.scans import scan_inputs

from nnunetv2_tpmamba.networks.ops import gated_scan, implementations, numba_cpu, selective_scan
from nnunetv2_tpmamba.networks.ops.implementations import (
    LOOP,
    Implementation,
    available_implementations,
    first_working,
    implementation_for,
    using,
    why_unusable,
)


def test_an_implementation_is_used_only_after_it_agreed_with_the_reference():
    def wrong(*inputs):
        y, states = LOOP.forward(*inputs)
        return 2 * y, states

    def broken(*inputs):
        raise RuntimeError("no kernel image\nis available")

    cpu = torch.device("cpu")
    assert why_unusable(LOOP, cpu) == ""
    assert "differs from the reference" in why_unusable(Implementation("wrong", wrong, LOOP.backward), cpu)
    assert why_unusable(Implementation("broken", broken, LOOP.backward), cpu) == "RuntimeError: no kernel image"
    nothing = Implementation("nothing", LOOP.forward, lambda *inputs: (None,) * 6)
    assert why_unusable(nothing, cpu).startswith("TypeError")


def test_each_device_and_precision_has_an_implementation():
    assert implementation_for("cpu").name == "numba"
    assert implementation_for("cpu", torch.float64).name == "PyTorch loop"
    assert implementation_for("mps").name == "PyTorch loop"


def test_the_first_call_may_come_from_the_operator_and_leaves_pytorch_its_threads():
    """Where autograd records nothing, the trial of an implementation must work too."""
    script = """
import torch
torch.set_num_threads(1)
from nnunetv2_tpmamba.networks.ops import selective_scan
from nnunetv2_tpmamba.networks.ops.implementations import implementation_for
inputs = [torch.rand(*shape) for shape in ((1, 3, 2), (1, 3, 2), (2, 2), (1, 3, 2), (1, 3, 2), (2,))]
selective_scan(*[x.requires_grad_() for x in inputs]).sum().backward()
print(implementation_for("cpu").name, implementation_for("cpu").note, torch.get_num_threads())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["numba", "1"]


def test_the_first_call_may_be_made_with_fake_tensors():
    """They count operations; numba cannot take them, but must not be given up for the whole process."""
    script = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from nnunetv2_tpmamba.networks.mamba import MambaBlock
from nnunetv2_tpmamba.networks.ops.causal_conv import _numba_works
from nnunetv2_tpmamba.networks.ops.implementations import implementation_for
with FakeTensorMode(), torch.no_grad():
    MambaBlock(8)(torch.empty(2, 5, 8))
print(implementation_for("cpu").name, _numba_works())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["numba", "True"]


def double(x, y):
    for i in numba.prange(len(x)):
        y[i] = 2 * x[i]


class TestNumbaKeepsKernelsWhereItCan:
    def double(self):
        x, y = torch.arange(3.0), torch.zeros(3)
        numba_cpu.run(numba_cpu.compiled(double), x, y)
        return y.tolist()

    def test_without_a_folder_they_are_compiled_anew(self, monkeypatch):
        """Neither a home nor a writable installation, where numba's own decorator raises an error."""
        monkeypatch.setattr(CacheImpl, "_locator_classes", [])
        assert self.double() == [0, 2, 4]

    def test_on_a_full_disk_they_are_used_all_the_same(self, monkeypatch):
        def no_space(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(IndexDataCacheFile, "save", no_space)
        assert self.double() == [0, 2, 4]


def test_mamba_ssms_function_is_called_with_its_axes(monkeypatch):
    """A stand-in with the signature of mamba_ssm's SelectiveScanFn, computing with the loop."""

    class SelectiveScanFn:
        @staticmethod
        def forward(ctx, u, delta, A, B, C, D=None):
            assert all(x.is_contiguous() for x in (u, delta, A, B, C, D))
            ctx.save_for_backward(u.mT, delta.mT, A, B.mT, C.mT, D)
            return LOOP.forward(*ctx.saved_tensors)[0].mT

        @staticmethod
        def backward(ctx, grad_y):
            _, states = LOOP.forward(*ctx.saved_tensors)
            u, delta, A, B, C, D = LOOP.backward(grad_y.mT, *ctx.saved_tensors, states)
            return u.mT, delta.mT, A, B.mT, C.mT, D, None, None, None, None

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.SelectiveScanFn = SelectiveScanFn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.delitem(sys.modules, "nnunetv2_tpmamba.networks.ops.mamba_ssm", raising=False)
    module = importlib.import_module("nnunetv2_tpmamba.networks.ops.mamba_ssm")
    try:
        theirs = Implementation("mamba-ssm", module.scan_forward, module.scan_backward)
        assert why_unusable(theirs, torch.device("cpu")) == ""
    finally:
        del sys.modules["nnunetv2_tpmamba.networks.ops.mamba_ssm"]


@pytest.fixture
def untried():
    """No implementation has been tried in this process, and what the test tries is forgotten."""
    first_working.cache_clear()
    yield
    first_working.cache_clear()


@pytest.mark.usefixtures("untried")
def test_a_broken_installation_falls_back(monkeypatch):
    monkeypatch.setitem(implementations.FASTER, "cpu", [("Triton", "no_such_module"), ("mamba-ssm", "nor_this_one")])
    fallback = implementation_for("cpu")
    assert fallback.name == "PyTorch loop"
    assert re.match("Triton not used: ModuleNotFoundError.*; mamba-ssm not used: ModuleNotFoundError", fallback.note)


@pytest.mark.usefixtures("untried")
def test_the_first_that_works_is_used(monkeypatch):
    candidates = [("Triton", "no_such_module"), ("numba", "numba_cpu"), ("mamba-ssm", "nor_this_one")]
    monkeypatch.setitem(implementations.FASTER, "cpu", candidates)
    first, loop = available_implementations("cpu")
    assert (first.name, loop.name) == ("numba", "PyTorch loop")
    assert implementation_for("cpu") == first
    assert re.fullmatch("Triton not used: [^;]*", first.note)


def test_triton_is_tried_before_mamba_ssm():
    assert [name for name, _ in implementations.FASTER["cuda"]] == ["Triton", "mamba-ssm"]


@pytest.fixture
def counted():
    """Implementations that note each pass they run, and the notes."""
    passes = []

    def counting(chosen):
        def forward(*inputs):
            passes.append("forward")
            return chosen.forward(*inputs)

        def backward(*inputs):
            passes.append("backward")
            return chosen.backward(*inputs)

        return chosen._replace(forward=forward, backward=backward)

    return counting, passes


def test_using_replaces_what_runs_and_only_inside(counted):
    counting, passes = counted
    inputs = [x.requires_grad_() for x in scan_inputs(1, 5, 2, 3)]
    with using(counting):
        selective_scan(*inputs).sum().backward()
    selective_scan(*inputs).sum().backward()
    assert passes == ["forward", "backward"]


def test_using_reaches_compiled_code_and_other_threads(counted):
    counting, passes = counted
    inputs = scan_inputs(1, 5, 2, 3)
    compiled = torch.compile(selective_scan, fullgraph=True, backend="aot_eager")
    compiled(*inputs)
    with using(counting):
        compiled(*inputs)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: selective_scan(*inputs), range(3)))
    assert passes == ["forward"] * 4


@torch.no_grad()
@pytest.mark.parametrize("autocast", [False, True])
def test_using_reaches_code_that_was_compiled_for_a_kernel_with_the_gate_inside(autocast):
    torch.compiler.reset()
    inputs = [*scan_inputs(2, 67, 8, 3), torch.randn(2, 67, 8)]
    compiled = torch.compile(gated_scan, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = compiled(*inputs)
        with using(lambda chosen: LOOP):
            torch.testing.assert_close(compiled(*inputs), expected, rtol=1e-4, atol=1e-4)
            torch.library.opcheck(torch.ops.tpmamba.gated_scan.default, inputs, test_utils="test_faketensor")


def test_using_may_be_nested(counted):
    counting, passes = counted
    with using(lambda chosen: LOOP):
        with using(counting):
            assert implementation_for("cpu").name == "PyTorch loop"
            selective_scan(*scan_inputs(1, 5, 2, 3))
        assert implementation_for("cpu") == LOOP
    assert passes == ["forward"]


def test_using_ends_with_an_error():
    before = implementation_for("cpu")
    with pytest.raises(KeyboardInterrupt), using(lambda chosen: LOOP):
        raise KeyboardInterrupt
    assert implementation_for("cpu") == before
