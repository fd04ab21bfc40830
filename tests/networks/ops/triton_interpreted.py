"""The Triton kernels on a CPU, by Triton's interpreter; test_triton_cuda.py runs this file with TRITON_INTERPRET=1 set.

The interpreter computes in numpy what the kernels say: masks, addresses, formulas. It says nothing about a GPU's
compiler, nor about speed.
"""

import numpy as np
import pytest
import torch
from support.scans import NAMES, scan_inputs
from triton.runtime import interpreter

from nnunetv2_tpmamba.networks.ops import triton_cuda
from nnunetv2_tpmamba.networks.ops.implementations import Implementation, why_unusable
from nnunetv2_tpmamba.networks.ops.reference import selective_scan_reference

GRADIENTS = ("y", *NAMES)


@pytest.fixture(autouse=True)
def whole_slices(monkeypatch):
    """Combine slices, not number by number as the interpreter does; by doubling, as associativity must allow."""

    def combined(op, before, after, dtypes):
        tensors = [op.to_tensor(x, dtype) for x, dtype in zip((*before, *after), (*dtypes, *dtypes), strict=True)]
        result = op.combine_fn.fn(*tensors)
        return [x.handle.data for x in (result if isinstance(result, tuple) else (result,))]

    def scan(op, tensors):
        dtypes = [x.dtype for x in tensors]
        values = [np.moveaxis(x.handle.data, op.axis, 0).copy() for x in tensors]
        assert not op.reverse
        shift = 1
        while shift < len(values[0]):
            longer = combined(op, [np.roll(x, shift, 0) for x in values], values, dtypes)
            values = [np.concatenate([x[:shift], y[shift:]]) for x, y in zip(values, longer, strict=True)]
            shift *= 2
        return [op.to_tensor(np.moveaxis(x, 0, op.axis), dtype) for x, dtype in zip(values, dtypes, strict=True)]

    def reduce(op, tensors):
        dtypes = [x.dtype for x in tensors]
        first, *others = zip(*(np.moveaxis(x.handle.data, op.axis, 0) for x in tensors), strict=True)
        for other in others:
            first = combined(op, first, other, dtypes)
        first = [np.expand_dims(x, op.axis) if op.keep_dims else x for x in first]
        return [op.to_tensor(x, dtype) for x, dtype in zip(first, dtypes, strict=True)]

    monkeypatch.setattr(interpreter.ScanOps, "generic_scan", scan)
    monkeypatch.setattr(interpreter.ReduceOps, "generic_reduce", reduce)


@pytest.fixture(autouse=True)
def loud_buffers(monkeypatch):
    """What no program writes shall be NaN."""
    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args, **kwargs: new_empty(*args, **kwargs).fill_(torch.nan))


def cotangent_of(u):
    return torch.randn(u.shape, generator=torch.Generator().manual_seed(1)).to(u.dtype)


def by_triton(*inputs):
    y, states = triton_cuda.scan_forward(*inputs)
    return y, *triton_cuda.scan_backward(cotangent_of(inputs[0]), *inputs, states)


def by_reference(*inputs):
    leaves = [x.detach().float().requires_grad_() for x in inputs]
    y = selective_scan_reference(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, cotangent_of(inputs[0]).float())


def assert_equal(actual, expected, rtol=1e-4, atol=1e-5):
    for name, a, e in zip(GRADIENTS, actual, expected, strict=True):
        scale = max(1.0, e.nan_to_num().abs().max().item()) if e.numel() else 1.0
        torch.testing.assert_close(
            a, e.to(a.dtype), rtol=rtol, atol=atol * scale, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    ("batch", "L", "E", "N"),
    [(1, L, 5, 3) for L in (1, 2, 15, 16, 17, 31, 32, 33, 65, 100)]
    + [(3, 33, E, 16) for E in (1, 8, 19)]
    + [(3, 18, 19, N) for N in (1, 3, 20, 64)]
    + [(2, 20, 67, 1), (2, 20, 4, 0)],
)
def test_matches_reference(batch, L, E, N):
    inputs = scan_inputs(batch, L, E, N)
    assert_equal(by_triton(*inputs), by_reference(*inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outside_float32_inside(dtype):
    inputs = [x.to(dtype) for x in scan_inputs(2, 33, 5, 3)]
    actual = by_triton(*inputs)
    assert {x.dtype for x in actual} == {dtype}
    assert_equal(actual, by_reference(*inputs), rtol=2 * torch.finfo(dtype).eps, atol=2 * torch.finfo(dtype).eps)


def test_states_are_those_before_each_chunk():
    u, delta, A, B, C, D = scan_inputs(2, 33, 5, 3)
    _, states = triton_cuda.scan_forward(u, delta, A, B, C, D)
    x = torch.zeros(2, 5, 3)
    for t in range(33):
        if t % 16 == 0:
            torch.testing.assert_close(states[:, t // 16], x, rtol=1e-4, atol=1e-5)
        x = torch.exp(delta[:, t, :, None] * A) * x + (delta * u)[:, t, :, None] * B[:, t, None, :]


def test_non_contiguous_and_expanded_inputs():
    u, delta, A, B, C, D = scan_inputs(2, 17, 5, 3)
    inputs = (u.mT.contiguous().mT, delta[:1].expand(2, -1, -1), A.mT.contiguous().mT, B[:1].expand(2, -1, -1), C, D)
    assert not inputs[0].is_contiguous()
    assert_equal(by_triton(*inputs), by_triton(*(x.contiguous() for x in inputs)), rtol=0, atol=0)


@pytest.mark.parametrize(("batch", "L", "E"), [(0, 5, 4), (2, 0, 4), (2, 5, 0)])
def test_empty_input(batch, L, E):
    y, *gradients = by_triton(*scan_inputs(batch, L, E, 3))
    assert y.shape == (batch, L, E)
    assert not any(g.count_nonzero() for g in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_nan_goes_where_the_references_goes(name):
    inputs = dict(zip(NAMES, scan_inputs(2, 40, 5, 3), strict=True))
    where = {"A": (2, 1), "D": (2,)}.get(name, (0, 19, 1))
    inputs[name][where] = torch.nan
    actual, expected = by_triton(*inputs.values()), by_reference(*inputs.values())
    assert expected[0].isnan().any()
    if name == "A":  # a padding row takes it along backward in time, one step before the reference
        actual, expected = actual[:1], expected[:1]
    for n, a, e in zip(GRADIENTS, actual, expected, strict=False):
        assert torch.equal(a.isnan(), e.isnan()), n
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_extreme_decays():
    """exp(delta A) from 1 - 1e-7 down to an underflow."""
    u, delta, A, B, C, D = scan_inputs(1, 100, 6, 4)
    delta = delta * torch.tensor([1e-6, 1e-3, 1.0, 10.0, 100.0, 1e4])
    expected = by_reference(u, delta, A, B, C, D)
    for a, e in zip(by_triton(u, delta, A, B, C, D), expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5 * e.abs().max().item())


def test_too_many_states_are_refused():
    with pytest.raises(ValueError, match="A has 65 states; the Triton kernels hold at most 64"):
        triton_cuda.scan_forward(*scan_inputs(1, 2, 3, 65))


def test_passes_the_trial():
    triton = Implementation("Triton", triton_cuda.scan_forward, triton_cuda.scan_backward)
    assert why_unusable(triton, torch.device("cpu")) == ""
