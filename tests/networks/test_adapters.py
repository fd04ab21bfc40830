"""The adapters of other papers: which tokens they connect, and what a fresh one does."""

import pytest
import torch

from nnunetv2_tpmamba.networks.adapters import AttentionAdapter, ConvAdapter

ADAPTERS = {
    "convolution": lambda: ConvAdapter(12, 4),
    "attention": lambda: AttentionAdapter(12, 4),
    "attention at full width": lambda: AttentionAdapter(12, 12),
}


def adapter_that_does_something(name):
    torch.manual_seed(0)
    adapter = ADAPTERS[name]()
    torch.nn.init.normal_(adapter.up.weight)
    return adapter


def tokens_seen_by(adapter, d, i, j):
    """Where a change of the input changes the output's token ``(d, i, j)``."""
    tokens = torch.randn(1, 5, 3, 4, 12, requires_grad=True)
    output = adapter(tokens)
    assert output.shape == tokens.shape
    return torch.autograd.grad(output[0, d, i, j].sum(), tokens)[0].abs().sum(-1)[0] > 0


@pytest.mark.parametrize("name", ADAPTERS)
def test_is_identity_at_init(name):
    tokens = torch.randn(2, 3, 2, 2, 12)
    assert torch.equal(ADAPTERS[name]()(tokens), tokens)


@pytest.mark.parametrize("name", ADAPTERS)
def test_result_is_added_to_the_input(name):
    """Layer norm takes a shift of all channels away, so only the input that is added can carry it."""
    adapter = adapter_that_does_something(name)
    tokens = torch.randn(2, 3, 2, 2, 12)
    torch.testing.assert_close(adapter(tokens + 10), adapter(tokens) + 10)


def test_convolution_sees_the_neighbours_along_depth():
    expected = torch.zeros(5, 3, 4, dtype=torch.bool)
    expected[1:4, 1, 2] = True
    assert torch.equal(tokens_seen_by(adapter_that_does_something("convolution"), 2, 1, 2), expected)


@pytest.mark.parametrize("name", ["attention", "attention at full width"])
def test_attention_sees_the_whole_volume(name):
    assert tokens_seen_by(adapter_that_does_something(name), 2, 1, 2).all()


def test_attention_equals_its_formula():
    adapter = adapter_that_does_something("attention")
    tokens = torch.randn(2, 3, 2, 2, 12)
    q, k, v = adapter.qkv(adapter.down(adapter.norm(tokens))).flatten(1, 3).chunk(3, dim=-1)
    attended = torch.softmax(q @ k.mT / 4**0.5, dim=-1) @ v
    expected = tokens + adapter.up(adapter.proj(attended)).view_as(tokens)
    torch.testing.assert_close(adapter(tokens), expected)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_parameter_gets_a_gradient(name):
    adapter = adapter_that_does_something(name)
    adapter(torch.randn(1, 3, 2, 2, 12)).square().mean().backward()
    for parameter in adapter.parameters():
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("scale", [1e3, 1e5, 1e7])
def test_tokens_of_any_size_are_read_alike_under_fp16(name, scale):
    """SAM's tokens exceed 65504, the largest number of fp16; layer norm takes their scale away."""
    adapter = adapter_that_does_something(name)
    tokens = torch.randn(1, 4, 3, 3, 12)
    read = []
    adapter.up.register_forward_hook(lambda module, args, output: read.append(output))
    adapter(tokens)
    with torch.autocast("cpu", dtype=torch.float16):
        adapter(scale * tokens)
    exact, lower = read
    assert (lower - exact).norm() < 0.02 * exact.norm()
