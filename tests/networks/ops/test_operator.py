"""The selective scan: every implementation against the reference, for the output and every gradient."""

import importlib
import os
import re
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.scans import NAMES, scan_inputs

from nnunetv2_tpmamba.networks.ops import implementations, operator, selective_scan
from nnunetv2_tpmamba.networks.ops.chunks import CHUNK
from nnunetv2_tpmamba.networks.ops.implementations import (
    LOOP,
    Implementation,
    available_implementations,
    implementation_for,
    why_unusable,
)
from nnunetv2_tpmamba.networks.ops.reference import selective_scan_reference


def output_and_gradients(scan, inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = scan(*leaves)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype).to(y.device)
    return [y.detach(), *torch.autograd.grad(y, leaves, cotangent)]


@pytest.fixture(params=["numba", "PyTorch loop"])
def implementation(request, monkeypatch):
    """Let the operator run on each implementation that a CPU has."""
    chosen = implementation_for("cpu") if request.param == "numba" else LOOP
    assert chosen.name == request.param, chosen.note
    monkeypatch.setattr(operator, "implementation_for", lambda device_type, dtype: chosen)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("L", [1, 2, 63, 64, 65, 500, 1152])
@pytest.mark.parametrize(("batch", "E", "N"), [(2, 12, 16), (1, 5, 3)])
def test_matches_reference(L, batch, E, N):
    inputs = scan_inputs(batch, L, E, N)
    expected = output_and_gradients(selective_scan_reference, inputs)
    actual = output_and_gradients(selective_scan, inputs)
    for name, a, e in zip(("y", *NAMES), actual, expected, strict=True):
        torch.testing.assert_close(
            a, e, rtol=1e-4, atol=1e-5 * max(1.0, e.abs().max().item()), msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("L", [1, 2, 7])
def test_gradcheck(L):
    inputs = [x.requires_grad_() for x in scan_inputs(2, L, 3, 2, torch.float64)]
    assert torch.autograd.gradcheck(selective_scan, inputs)


def test_gradients_of_a_subset_of_inputs():
    inputs = scan_inputs(2, 10, 4, 3)
    expected = output_and_gradients(selective_scan_reference, inputs)
    inputs[2].requires_grad_()  # only A
    y = selective_scan(*inputs)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(inputs[2].grad, expected[3], rtol=1e-4, atol=1e-4)


def test_is_causal():
    u, *rest = scan_inputs(1, 20, 4, 3)
    changed = u.clone()
    changed[:, 12:] += 1
    before, after = selective_scan(u, *rest), selective_scan(changed, *rest)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert (before[:, 12:] != after[:, 12:]).all()


def test_batch_of_two_is_two_batches_of_one():
    inputs = scan_inputs(2, 33, 6, 4)
    both = selective_scan(*inputs)
    u, delta, A, B, C, D = inputs
    one_by_one = [selective_scan(u[i : i + 1], delta[i : i + 1], A, B[i : i + 1], C[i : i + 1], D) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(one_by_one))


def test_non_contiguous_and_expanded_inputs():
    u, delta, A, B, C, D = scan_inputs(2, 9, 4, 3)
    transposed = u.transpose(1, 2).contiguous().transpose(1, 2)
    expanded = B[:1].expand(2, -1, -1)
    torch.testing.assert_close(
        selective_scan(transposed, delta, A, expanded, C, D), selective_scan(u, delta, A, expanded.contiguous(), C, D)
    )


@pytest.mark.parametrize(("batch", "L"), [(0, 5), (2, 0)])
def test_empty_input_gives_empty_output(batch, L):
    result = output_and_gradients(selective_scan, scan_inputs(batch, L, 4, 3))
    assert result[0].shape == (batch, L, 4)
    assert all(torch.all(g == 0) for g in result[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    halves = [x.to(dtype) for x in scan_inputs(2, 30, 4, 3)]
    y = selective_scan(*halves)
    assert y.dtype == dtype
    torch.testing.assert_close(y, selective_scan_reference(*(x.float() for x in halves)).to(dtype))


def test_autocast_does_not_lower_the_precision():
    inputs = scan_inputs(2, 30, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = output_and_gradients(selective_scan, inputs)
    for a, e in zip(under_autocast, output_and_gradients(selective_scan, inputs), strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=0)


def test_nothing_of_the_size_of_all_states_is_kept_for_backward():
    batch, L, E, N = 2, 400, 8, 16
    leaves = [x.requires_grad_() for x in scan_inputs(batch, L, E, N)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        selective_scan(*leaves)
    assert max(kept) == batch * L * max(E, N)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("L", [6, 33])
def test_operator_passes_opcheck(L):
    inputs = [x.requires_grad_() for x in scan_inputs(2, L, 4, 3)]
    torch.library.opcheck(torch.ops.tpmamba.selective_scan.default, inputs)


def test_compiles_to_one_graph_for_all_lengths():
    compiled = torch.compile(selective_scan, fullgraph=True, backend="aot_eager", dynamic=True)
    for L in (33, 48, 1):
        inputs = scan_inputs(2, L, 4, 3)
        expected = output_and_gradients(selective_scan, inputs)
        for a, e in zip(output_and_gradients(compiled, inputs), expected, strict=True):
            torch.testing.assert_close(a, e)


@pytest.mark.usefixtures("implementation")
def test_states_are_those_before_each_chunk():
    L = 2 * CHUNK + 1
    u, delta, A, B, C, D = (x.requires_grad_() for x in scan_inputs(2, L, 4, 3))
    y, states = torch.ops.tpmamba.selective_scan(u, delta, A, B, C, D)
    assert y.requires_grad
    assert not states.requires_grad
    assert states.shape == (2, 3, 4, 3)
    x = torch.zeros(2, 4, 3)
    for t in range(L):
        if t % CHUNK == 0:
            torch.testing.assert_close(states[:, t // CHUNK], x, rtol=1e-4, atol=1e-5)
        x = (torch.exp(delta[:, t, :, None] * A) * x + (delta * u)[:, t, :, None] * B[:, t, None, :]).detach()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("delta", (2, 9, 5)), ("B", (2, 8, 3)), ("C", (1, 9, 3)), ("D", (5,)), ("A", (5, 3)), ("A", (4,)), ("u", (9, 4))],
)
def test_shapes_that_disagree_are_named(name, shape):
    inputs = dict(zip(NAMES, scan_inputs(2, 9, 4, 3), strict=True))
    inputs[name] = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"^{name} has shape \({', '.join(map(str, shape))},?\); .* is needed"):
        selective_scan(**inputs)


def test_other_device_is_named():
    inputs = scan_inputs(2, 9, 4, 3)
    inputs[3] = inputs[3].to("meta")
    with pytest.raises(ValueError, match="B is on meta; it is needed on cpu, where u is"):
        selective_scan(*inputs)


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


def test_the_first_call_may_come_from_the_operator():
    """Where autograd records nothing, the trial of an implementation must work too."""
    script = """
import torch
from nnunetv2_tpmamba.networks.ops import selective_scan
from nnunetv2_tpmamba.networks.ops.implementations import implementation_for
inputs = [torch.rand(*shape) for shape in ((1, 3, 2), (1, 3, 2), (2, 2), (1, 3, 2), (1, 3, 2), (2,))]
selective_scan(*[x.requires_grad_() for x in inputs]).sum().backward()
print(implementation_for("cpu").name, implementation_for("cpu").note)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["numba"]


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


def test_a_broken_installation_falls_back(monkeypatch):
    monkeypatch.setitem(implementations.FASTER, "cpu", [("Triton", "no_such_module"), ("mamba-ssm", "nor_this_one")])
    fallback = implementation_for.__wrapped__("cpu")
    assert fallback.name == "PyTorch loop"
    assert re.match("Triton not used: ModuleNotFoundError.*; mamba-ssm not used: ModuleNotFoundError", fallback.note)


def test_the_first_that_works_is_used(monkeypatch):
    candidates = [("Triton", "no_such_module"), ("numba", "numba_cpu"), ("mamba-ssm", "nor_this_one")]
    monkeypatch.setitem(implementations.FASTER, "cpu", candidates)
    first, loop = available_implementations("cpu")
    assert (first.name, loop.name) == ("numba", "PyTorch loop")
    assert implementation_for.__wrapped__("cpu") == first
    assert re.fullmatch("Triton not used: [^;]*", first.note)


def test_triton_is_tried_before_mamba_ssm():
    assert [name for name, _ in implementations.FASTER["cuda"]] == ["Triton", "mamba-ssm"]


def test_too_many_states_for_a_kernel_run_in_the_loop(monkeypatch):
    def refuse(*inputs):
        raise ValueError("too many states")

    kernel = Implementation("kernel", refuse, refuse, max_d_state=3)
    monkeypatch.setattr(operator, "implementation_for", lambda device_type, dtype: kernel)
    assert selective_scan(*scan_inputs(1, 5, 2, 4)).shape == (1, 5, 2)
    with pytest.raises(ValueError, match="too many states"):
        selective_scan(*scan_inputs(1, 5, 2, 3))


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("name", ["u", "delta", "B", "C"])
def test_nan_stays_in_its_sequence_and_after_its_step(name):
    inputs = dict(zip(NAMES, scan_inputs(2, 12, 4, 3), strict=True))
    inputs[name][0, 5] = float("nan")
    y = selective_scan(**inputs)
    expected = selective_scan_reference(**inputs)
    assert torch.equal(y.isnan(), expected.isnan())
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.usefixtures("implementation")
def test_extreme_decays():
    """exp(delta A) from 1 - 1e-7 down to an underflow."""
    u, delta, A, B, C, D = scan_inputs(1, 200, 6, 4)
    delta = delta * torch.tensor([1e-6, 1e-3, 1.0, 10.0, 100.0, 1e4])
    inputs = [u, delta, A, B, C, D]
    expected = output_and_gradients(selective_scan_reference, inputs)
    for a, e in zip(output_and_gradients(selective_scan, inputs), expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5 * e.abs().max().item())


@pytest.mark.usefixtures("implementation")
def test_more_threads_than_cores():
    inputs = scan_inputs(5, 40, 6, 4)
    expected = output_and_gradients(selective_scan, inputs)
    before = torch.get_num_threads()
    torch.set_num_threads(4 * (os.cpu_count() or 1))
    try:
        actual = output_and_gradients(selective_scan, inputs)
    finally:
        torch.set_num_threads(before)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)


def test_threads_may_call_it_together():
    inputs = scan_inputs(4, 300, 16, 16)
    expected = selective_scan(*inputs)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: selective_scan(*inputs), range(16)):
            assert torch.equal(y, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["Triton", "mamba-ssm", "PyTorch loop"])
@pytest.mark.parametrize(
    ("batch", "L", "E", "N"), [(96, 144, 192, 16), (12, 1152, 192, 16), (3, 65, 19, 3), (2, 33, 5, 64), (1, 1, 1, 1)]
)
def test_gpu_matches_reference(name, batch, L, E, N, monkeypatch):
    available = {x.name: x for x in available_implementations("cuda")}
    if name not in available:
        assert name == "mamba-ssm", available["PyTorch loop"].note
        pytest.skip(available["PyTorch loop"].note)
    monkeypatch.setattr(operator, "implementation_for", lambda device_type, dtype: available[name])
    inputs = scan_inputs(batch, L, E, N, device="cuda")
    expected = output_and_gradients(selective_scan_reference, inputs)
    for a, e in zip(output_and_gradients(selective_scan, inputs), expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4 * e.abs().max().item())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_triton_reads_half_precision(dtype):
    triton_cuda = importlib.import_module("nnunetv2_tpmamba.networks.ops.triton_cuda")
    halves = [x.to(dtype) for x in scan_inputs(4, 65, 32, 16, device="cuda")]
    y, states = triton_cuda.scan_forward(*halves)
    gradients = triton_cuda.scan_backward(torch.ones_like(y), *halves, states)
    leaves = [x.float().requires_grad_() for x in halves]
    expected = selective_scan_reference(*leaves)
    for a, e in zip((y, *gradients), (expected, *torch.autograd.grad(expected.sum(), leaves)), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), e, rtol=1e-2, atol=1e-2 * e.abs().max().item())


@pytest.mark.gpu
def test_gpu_gives_the_same_result_every_time():
    inputs = scan_inputs(12, 144, 192, 16, device="cuda")
    first, second = (output_and_gradients(selective_scan, inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
