"""Linear layers: the convolution that computes them on some processors against ``F.linear``."""

import sys

import pytest
import torch
import torch.nn.functional as F

from nnunetv2_tpmamba.networks import linear as module
from nnunetv2_tpmamba.networks.device import counted_for
from nnunetv2_tpmamba.networks.linear import Linear, linear, mkl_is_slow


@pytest.fixture
def slow_mkl(monkeypatch):
    """Let two threads of any processor compute as where MKL is slow, whatever the size; yields what is convolved."""
    convolved = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    conv2d = F.conv2d
    monkeypatch.setattr(module, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(module, "FEW_VALUES", 0)
    monkeypatch.setattr(F, "conv2d", lambda x, *args: convolved.append(x) or conv2d(x, *args))
    yield convolved
    torch.set_num_threads(threads)


@pytest.fixture
def host(monkeypatch):
    """Return a function that lets this machine seem to have another processor."""
    monkeypatch.setattr(module, "mkl_is_slow", mkl_is_slow.__wrapped__)

    def pretend(name, capability):
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: name)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)

    return pretend


def output_and_gradients(function, *inputs):
    inputs = [x.detach().requires_grad_() for x in inputs]
    output = function(*inputs)
    factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output, *torch.autograd.grad((output * factors).sum(), inputs)]


@pytest.mark.parametrize(
    "shape", [(7, 5), (1, 1), (1, 9, 33), (1, 48, 9), (3, 2, 40), (4, 3, 3, 64), (4, 4, 4, 64), (1, 5, 1, 2, 24)]
)
@pytest.mark.parametrize("width", [1, 48])
@pytest.mark.parametrize("bias", [True, False])
def test_the_convolution_is_the_product(slow_mkl, shape, width, bias):
    torch.manual_seed(0)
    inputs = [torch.randn(shape), torch.randn(width, shape[-1]), *([torch.randn(width)] if bias else [])]
    actual, expected = (output_and_gradients(function, *inputs) for function in (linear, F.linear))
    assert slow_mkl
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)


def test_the_input_may_lie_in_memory_in_any_way(slow_mkl):
    torch.manual_seed(0)
    weight = torch.randn(8, 16)
    for x in (torch.randn(5, 16, 6).mT, torch.randn(2, 3, 32)[..., ::2], torch.randn(1, 4, 16).expand(3, -1, -1)):
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=1e-5, atol=1e-5)
    assert len(slow_mkl) == 3


def test_frozen_weights_get_no_gradient(slow_mkl):
    layer = Linear(16, 8).requires_grad_(False)
    x = torch.randn(2, 3, 16, requires_grad=True)
    layer(x).sum().backward()
    assert slow_mkl
    assert x.grad is not None
    assert layer.weight.grad is None


def test_only_float32_without_autocast_is_convolved(slow_mkl):
    x, layer = torch.randn(4, 5, 16), Linear(16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    for dtype in (torch.float64, torch.bfloat16):
        assert layer.to(dtype)(x.to(dtype)).dtype == dtype
    with counted_for("cuda"):
        layer.float()(x)
    assert not slow_mkl


def test_compiled_code_multiplies_matrices(slow_mkl):
    torch.compiler.reset()
    x, weight = torch.randn(4, 5, 16), torch.randn(8, 16)
    compiled = torch.compile(linear, fullgraph=True, backend="eager")
    assert compiled(x, weight).equal(F.linear(x, weight))
    assert not slow_mkl


def test_few_values_stay_a_product(slow_mkl, monkeypatch):
    monkeypatch.setattr(module, "FEW_VALUES", 48)
    for rows, convolutions in ((3, 0), (4, 1)):
        linear(torch.randn(rows, 16), torch.randn(8, 16))
        assert len(slow_mkl) == convolutions


@pytest.mark.skipif(not module.has_onednn(), reason="the library is missing here")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(1, 96, 12, 768), (12, 96, 40), (16, 12, 12, 768), (9, 14, 14, 768), (17, 3, 768)])
def test_what_is_convolved_is_convolved_by_onednn(slow_mkl, shape, threads):
    """Asked of a function that PyTorch keeps to itself, because nothing in public says it."""
    torch.set_num_threads(threads)
    weight = torch.randn(8, shape[-1])
    linear(torch.randn(shape), weight)
    assert len(slow_mkl) == (0 if threads == 1 and shape[0] == 9 else 1)
    kernel = weight[:, :, None, None]
    for x in slow_mkl:
        backend = torch._C._select_conv_backend(x, kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        assert backend == torch._C._ConvBackend.Mkldnn


def test_without_onednn_nothing_is_convolved(slow_mkl, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    linear(torch.randn(4, 5, 16), torch.randn(8, 16))
    assert not slow_mkl


def test_no_values_and_a_single_vector(slow_mkl):
    weight = torch.randn(8, 16)
    assert linear(torch.empty(0, 3, 16), weight).shape == (0, 3, 8)
    assert linear(torch.randn(16), weight).shape == (8,)


@pytest.mark.parametrize(
    ("name", "capability", "slow"),
    [
        ("znver5", "AVX512", True),
        ("znver4", "AVX512", True),
        ("znver4", "AVX2", False),
        ("znver3", "AVX2", False),
        ("sapphirerapids", "AVX512", False),
        ("generic", "DEFAULT", False),
    ],
)
def test_mkl_is_slow_on_amd_processors_with_avx512(host, name, capability, slow):
    host(name, capability)
    assert module.mkl_is_slow() == slow


def test_a_processor_without_a_name_is_like_any_other(host, monkeypatch):
    host("znver5", "AVX512")
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    assert not module.mkl_is_slow()
