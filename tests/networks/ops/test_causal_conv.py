"""The convolution before the scan: numba's kernel against PyTorch's convolution, for output and every gradient."""

import sys

import pytest
import torch

from nnunetv2_tpmamba.networks.device import counted_for
from nnunetv2_tpmamba.networks.ops import causal_conv as public
from nnunetv2_tpmamba.networks.ops.causal_conv import _causal_conv, causal_conv_reference, why_not_numba
from nnunetv2_tpmamba.networks.ops.numba_conv import conv_backward as numba_conv_backward


def random_inputs(batch, L, E, taps, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, L, E), (E, 1, taps), (E,)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def output_and_gradients(conv, inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = conv(*leaves)
    factors = torch.randn(y.mT.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype).mT
    return [y.detach(), *torch.autograd.grad(y, leaves, factors)]


@pytest.mark.parametrize("L", [1, 2, 3, 4, 65, 300])
@pytest.mark.parametrize(("batch", "E", "taps"), [(2, 12, 4), (1, 5, 7), (3, 1, 1)])
def test_matches_reference(L, batch, E, taps):
    """Also for fewer steps than taps, and for a gradient whose channels are not last in memory."""
    assert not why_not_numba()
    inputs = random_inputs(batch, L, E, taps)
    actual, expected = (output_and_gradients(conv, inputs) for conv in (public, causal_conv_reference))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5 * max(1.0, e.abs().max().item()))


def test_a_half_of_the_channels_of_a_tensor():
    x, weight, bias = random_inputs(2, 20, 16, 4)
    half = x[..., 8:]
    assert not half.is_contiguous()
    expected = causal_conv_reference(half, weight[8:], bias[8:])
    torch.testing.assert_close(public(half, weight[8:], bias[8:]), expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_hides_no_bad_number_and_spreads_it_no_further_than_its_reach(bad):
    x, weight, bias = random_inputs(1, 12, 4, 3)
    x[0, 5, 2] = bad
    finite = torch.isfinite(public(x, weight, bias))
    expected = torch.ones(1, 12, 4, dtype=torch.bool)
    expected[0, 5:8, 2] = False
    assert finite.equal(expected)


def test_double_precision_is_the_reference():
    inputs = random_inputs(2, 5, 3, 4, torch.float64)
    assert public(*inputs).equal(causal_conv_reference(*inputs))
    assert torch.autograd.gradcheck(public, [x.requires_grad_() for x in inputs])


def test_operator_passes_opcheck():
    x, weight, bias = (x.requires_grad_() for x in random_inputs(2, 6, 4, 3))
    torch.library.opcheck(_causal_conv, (x, weight.squeeze(1), bias))


def test_compiles_to_one_graph():
    torch.compiler.reset()
    why_not_numba.cache_clear()  # it must not look into the trial
    inputs = random_inputs(2, 9, 4, 3)
    compiled = torch.compile(public, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(*(output_and_gradients(conv, inputs) for conv in (compiled, public)), strict=True):
        torch.testing.assert_close(actual, expected)


def wrong(position):
    """The backward pass with a wrong gradient of the input, the weight or the bias."""

    def conv_backward(*inputs):
        gradients = list(numba_conv_backward(*inputs))
        gradients[position] = gradients[position] + 1
        return gradients

    return conv_backward


BROKEN = {
    "forward": ("conv_forward", lambda x, weight, bias: x),
    **{f"gradient {i}": ("conv_backward", wrong(i)) for i in range(3)},
}


@pytest.mark.parametrize("breaking", ["missing", *BROKEN])
def test_without_a_working_numba_it_is_the_reference(monkeypatch, breaking):
    module = "nnunetv2_tpmamba.networks.ops.numba_conv"
    if breaking == "missing":
        monkeypatch.setitem(sys.modules, module, None)
    else:
        name, function = BROKEN[breaking]
        monkeypatch.setattr(f"{module}.{name}", function)
    why_not_numba.cache_clear()
    try:
        assert why_not_numba().startswith("ModuleNotFoundError" if breaking == "missing" else "its result differs")
        inputs = random_inputs(2, 9, 4, 3)
        assert public(*inputs).equal(causal_conv_reference(*inputs))
    finally:
        monkeypatch.undo()
        why_not_numba.cache_clear()


def test_what_stands_for_a_gpu_is_not_computed_by_numba(monkeypatch):
    monkeypatch.setattr("nnunetv2_tpmamba.networks.ops.numba_conv.conv_forward", lambda *inputs: 1 / 0)
    inputs = random_inputs(2, 9, 4, 3)
    with counted_for("cuda"):
        assert public(*inputs).equal(causal_conv_reference(*inputs))
