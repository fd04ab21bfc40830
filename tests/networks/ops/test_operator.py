"""The selective scan: every implementation against the reference, for the output and every gradient."""

import importlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.scans import NAMES, scan_inputs

from nnunetv2_tpmamba.networks.ops import gated_scan, selective_scan
from nnunetv2_tpmamba.networks.ops.chunks import CHUNK
from nnunetv2_tpmamba.networks.ops.implementations import (
    LOOP,
    Implementation,
    available_implementations,
    implementation_for,
    using,
)
from nnunetv2_tpmamba.networks.ops.reference import selective_scan_reference


def output_and_gradients(scan, inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = scan(*leaves)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype).to(y.device)
    return [y.detach(), *torch.autograd.grad(y, leaves, cotangent)]


@pytest.fixture(params=["numba", "PyTorch loop"])
def implementation(request):
    """Let the operator run on each implementation that a CPU has."""
    wanted = implementation_for("cpu") if request.param == "numba" else LOOP
    assert wanted.name == request.param, wanted.note
    with using(lambda chosen: wanted):
        yield


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


def gated_reference(u, step, A, B, C, D, gate):
    delta = torch.log1p(torch.exp(step.double())).to(u.dtype)
    return selective_scan_reference(u, delta, A, B, C, D) * gate * torch.sigmoid(gate)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("L", [1, 2, 63, 500])
@pytest.mark.parametrize(("batch", "E", "N"), [(2, 12, 16), (1, 5, 3)])
def test_gated_scan_matches_reference(L, batch, E, N):
    """With gradients it is composed, without them one pass where there is a kernel; steps and gates reach far out."""
    u, _, *others = scan_inputs(batch, L, E, N)
    step, gate = (4 * x for x in torch.randn(2, batch, L, E, generator=torch.Generator().manual_seed(2)))
    inputs = [u, step, *others, gate]
    expected = output_and_gradients(gated_reference, inputs)
    actual = output_and_gradients(gated_scan, inputs)
    with torch.no_grad():
        actual += [gated_scan(*inputs)]
    for a, e in zip(actual, [*expected, expected[0]], strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5 * max(1.0, e.abs().max().item()))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", range(7))
def test_gated_scan_hides_no_bad_number(place, bad):
    u, step, *others = scan_inputs(1, 40, 6, 3)
    inputs = [u, step, *others, torch.ones_like(u)]
    inputs[place].flatten()[0] = bad
    expected = gated_reference(*inputs)
    with torch.no_grad():
        actual = gated_scan(*inputs)
    assert not torch.isfinite(expected).all()
    assert torch.isfinite(actual).equal(torch.isfinite(expected))


@torch.no_grad()
def test_gated_scan_compiles_in_one_piece():
    u, step, *others = scan_inputs(2, 20, 6, 3)
    compiled = torch.compile(gated_scan, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u, step, *others, u), gated_scan(u, step, *others, u))


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


def test_too_many_states_for_a_kernel_run_in_the_loop():
    def refuse(*inputs):
        raise ValueError("too many states")

    kernel = Implementation("kernel", refuse, refuse, max_d_state=3)
    with using(lambda chosen: kernel):
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
def test_gpu_matches_reference(name, batch, L, E, N):
    available = {x.name: x for x in available_implementations("cuda")}
    if name not in available:
        assert name == "mamba-ssm", available["PyTorch loop"].note
        pytest.skip(available["PyTorch loop"].note)
    inputs = scan_inputs(batch, L, E, N, device="cuda")
    expected = output_and_gradients(selective_scan_reference, inputs)
    with using(lambda chosen: available[name]):
        actual = output_and_gradients(selective_scan, inputs)
    for a, e in zip(actual, expected, strict=True):
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
