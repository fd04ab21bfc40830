"""The Mamba block against its definition, and its parameters against mamba_ssm's."""

import math

import pytest
import torch
import torch.nn.functional as F

from nnunetv2_tpmamba.networks import mamba
from nnunetv2_tpmamba.networks.mamba import MambaBlock


def block_with_random_parameters(d_model=8, seed=0, **sizes):
    torch.manual_seed(seed)
    block = MambaBlock(d_model, **sizes).double()
    for parameter in block.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return block


def step_by_step(block, sequence):
    """Mamba's inference recurrence in plain loops: one token at a time, a window of the last inputs and a state."""
    p = dict(block.named_parameters())
    d_inner, d_state = p["A_log"].shape
    d_conv = p["conv1d.weight"].shape[-1]
    dt_rank = p["dt_proj.weight"].shape[1]
    outputs = []
    for tokens in sequence:
        window = torch.zeros(d_conv, d_inner, dtype=tokens.dtype)
        state = torch.zeros(d_inner, d_state, dtype=tokens.dtype)
        for token in tokens:
            inner, gate = (p["in_proj.weight"] @ token).split(d_inner)
            window = torch.cat([window[1:], inner[None]])
            u = (window * p["conv1d.weight"][:, 0].T).sum(0) + p["conv1d.bias"]
            u = u * torch.sigmoid(u)
            dt, b, c = (p["x_proj.weight"] @ u).split([dt_rank, d_state, d_state])
            delta = torch.log1p(torch.exp(p["dt_proj.weight"] @ dt + p["dt_proj.bias"]))
            for e in range(d_inner):
                for n in range(d_state):
                    a = -math.exp(p["A_log"][e, n])
                    state[e, n] = torch.exp(delta[e] * a) * state[e, n] + delta[e] * b[n] * u[e]
            y = state @ c + p["D"] * u
            outputs.append(p["out_proj.weight"] @ (y * gate * torch.sigmoid(gate)))
    return torch.stack(outputs).unflatten(0, sequence.shape[:2])


@pytest.mark.parametrize("sizes", [{}, {"d_state": 3, "d_conv": 2, "expand": 3}])
def test_equals_a_step_by_step_computation(sizes):
    block = block_with_random_parameters(**sizes)
    sequence = torch.randn(2, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(sequence), step_by_step(block, sequence))


def test_parameters_are_those_of_mamba_ssm():
    """Names and shapes of ``mamba_ssm.modules.mamba_simple.Mamba(d_model=96, d_state=16, d_conv=4, expand=2)``."""
    expected = {
        "A_log": (192, 16),
        "D": (192,),
        "in_proj.weight": (384, 96),
        "conv1d.weight": (192, 1, 4),
        "conv1d.bias": (192,),
        "x_proj.weight": (6 + 32, 192),
        "dt_proj.weight": (192, 6),
        "dt_proj.bias": (192,),
        "out_proj.weight": (96, 192),
    }
    block = MambaBlock(96)
    assert {name: tuple(x.shape) for name, x in block.state_dict().items()} == expected
    theirs = {name: torch.randn(shape) for name, shape in expected.items()}
    block.load_state_dict(theirs)
    assert all(torch.equal(block.state_dict()[name], x) for name, x in theirs.items())


def test_initialisation_is_that_of_mamba_ssm():
    block = MambaBlock(96)
    step = F.softplus(block.dt_proj.bias)
    assert 1e-3 * 0.999 <= step.min() < 3e-3
    assert 3e-2 < step.max() <= 1e-1 * 1.001
    assert block.dt_proj.weight.abs().max() <= 6**-0.5
    torch.testing.assert_close(-torch.exp(block.A_log)[0], -torch.arange(1.0, 17.0))
    assert torch.all(block.D == 1)


def test_is_causal():
    block = block_with_random_parameters()
    sequence = torch.randn(1, 12, 8, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(block(sequence)[0, 5].sum(), sequence)[0]
    seen = gradient.abs().sum(-1)[0] > 0
    assert seen.tolist() == [True] * 6 + [False] * 6


def test_of_a_large_input_nothing_else_is_kept(monkeypatch):
    block, sequence = MambaBlock(d_model=16), torch.randn(2, 20, 16)
    results = []
    for smallest in (sequence.numel() + 1, sequence.numel()):
        monkeypatch.setattr(mamba, "MANY_VALUES", smallest)
        block.zero_grad()
        kept = []
        leaf = sequence.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda x, k=kept: k.append(x.numel()) or x, lambda x: x):
            y = block(leaf)
        y.square().sum().backward()
        results.append((sum(kept), [y.detach(), leaf.grad, *(p.grad.clone() for p in block.parameters())]))
    (everything, expected), (little, actual) = results
    assert little < everything / 10
    assert all(a.equal(e) for a, e in zip(actual, expected, strict=True))


def test_output_is_float32_under_autocast():
    block = MambaBlock(8)
    sequence = torch.randn(2, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(sequence)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, block(sequence), rtol=0.1, atol=0.02)


@pytest.mark.gpu
def test_equals_mamba_ssm():
    mamba_ssm = pytest.importorskip("mamba_ssm", reason="needs the [cuda] extra")
    theirs = mamba_ssm.Mamba(96).cuda()
    ours = MambaBlock(96).cuda()
    ours.load_state_dict(theirs.state_dict())
    sequence = torch.randn(3, 65, 96, device="cuda")
    torch.testing.assert_close(ours(sequence), theirs(sequence), rtol=1e-3, atol=1e-4)
