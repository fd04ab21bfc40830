"""The adapters of other papers: which tokens they connect."""

import pytest
import torch

from nnunetv2_tpmamba.networks.adapters import AttentionAdapter, ConvAdapter


def tokens_seen_by(adapter, d, i, j):
    """Where a change of the input changes the output's token ``(d, i, j)``."""
    tokens = torch.randn(1, 5, 3, 4, 12, requires_grad=True)
    output = adapter(tokens)
    assert output.shape == tokens.shape
    return torch.autograd.grad(output[0, d, i, j].sum(), tokens)[0].abs().sum(-1)[0] > 0


def test_convolution_sees_the_neighbours_along_depth():
    expected = torch.zeros(5, 3, 4, dtype=torch.bool)
    expected[1:4, 1, 2] = True
    assert torch.equal(tokens_seen_by(ConvAdapter(12, 4), 2, 1, 2), expected)


@pytest.mark.parametrize("hidden_dim", [4, 12])
def test_attention_sees_the_whole_volume(hidden_dim):
    assert tokens_seen_by(AttentionAdapter(12, hidden_dim), 2, 1, 2).all()


@pytest.mark.parametrize("adapter", [ConvAdapter(12, 4), AttentionAdapter(12, 4), AttentionAdapter(12, 12)])
def test_result_is_added_to_the_input(adapter):
    last = adapter.up if isinstance(adapter.up, torch.nn.Linear) else adapter.proj
    for parameter in last.parameters():
        torch.nn.init.zeros_(parameter)
    tokens = torch.randn(2, 3, 2, 2, 12)
    assert torch.equal(adapter(tokens), tokens)
