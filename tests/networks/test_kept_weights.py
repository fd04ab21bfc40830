"""Weights that are computed once and kept: never out of date, never in the way of gradients."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from nnunetv2_tpmamba.networks import kept_weights
from nnunetv2_tpmamba.networks.device import counted_for
from nnunetv2_tpmamba.networks.kept_weights import KeptLinear
from nnunetv2_tpmamba.networks.lora import LoRAQKV

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def autocast(request):
    with torch.autocast("cpu", torch.bfloat16, enabled=request.param == torch.bfloat16):
        yield


def plain(layer, x):
    return nn.functional.linear(x, layer.weight, layer.bias)


def in_place(layer):
    with torch.no_grad():
        layer.weight.mul_(2)


def optimizer_step(layer):
    layer.requires_grad_()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        plain(layer, X).sum().backward()
    torch.optim.AdamW([layer.weight], lr=0.1).step()


def fused_optimizer_step(layer):
    """It gives the weight no new version, but a forward pass with gradients comes before it."""
    layer.requires_grad_()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        layer(X).sum().backward()
    torch.optim.AdamW([layer.weight], lr=0.1, fused=True).step()


def compiled_training_with_a_fused_optimizer(layer):
    """Compiled code does not look at what is kept."""
    torch.compiler.reset()
    compiled = torch.compile(layer.requires_grad_(), backend="aot_eager")
    compiled.train()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        compiled(X).sum().backward()
    torch.optim.AdamW([layer.weight], lr=0.1, fused=True).step()
    compiled.eval()


CHANGES = {
    "in place": in_place,
    "an optimizer's step": optimizer_step,
    "a fused optimizer's step": fused_optimizer_step,
    "compiled training": compiled_training_with_a_fused_optimizer,
    "another state dict": lambda layer: layer.load_state_dict(KeptLinear(8, 4).state_dict()),
    "another tensor": lambda layer: setattr(layer.weight, "data", torch.randn(4, 8)),
    "another parameter": lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn(4, 8))),
}


@pytest.mark.usefixtures("autocast")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_follows_every_change_of_the_weight(change):
    layer = KeptLinear(8, 4).eval()
    with torch.no_grad():
        before = layer(X)
        assert layer(X).equal(before)
        change(layer)
        assert layer(X).equal(plain(layer, X))
        assert not layer(X).equal(before)


@torch.no_grad()
def test_casts_once(monkeypatch):
    layer, computed = KeptLinear(8, 4), []
    original = kept_weights.Kept

    def counting(*values):
        computed.append(values)
        return original(*values)

    monkeypatch.setattr(kept_weights, "Kept", counting)
    with torch.autocast("cpu", torch.bfloat16):
        results = [layer(X) for _ in range(3)]
    assert len(computed) == 1
    assert {result.dtype for result in results} == {torch.bfloat16}
    layer(X)
    assert len(computed) == 2  # in float32


@pytest.mark.usefixtures("autocast")
def test_frozen_weights_pass_gradients_on_and_trained_ones_get_theirs():
    for trained in (False, True):
        layer, x = KeptLinear(8, 4).requires_grad_(trained), X.clone().requires_grad_()
        leaves = [x, *layer.parameters()] if trained else [x]
        for actual, expected in zip(
            torch.autograd.grad(layer(x).square().sum(), leaves),
            torch.autograd.grad(plain(layer, x).square().sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(actual, expected)


@pytest.mark.usefixtures("autocast")
def test_a_weight_that_was_kept_without_gradients_does_not_end_a_training():
    layer, x = KeptLinear(8, 4).requires_grad_(False), X.clone().requires_grad_()
    with torch.inference_mode():
        layer(X.clone())
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.usefixtures("autocast")
@torch.inference_mode()
def test_a_layer_made_in_inference_mode_keeps_nothing():
    layer = KeptLinear(8, 4)
    for _ in range(2):
        layer.weight.mul_(2)
        assert layer(X).equal(plain(layer, X))


@torch.no_grad()
def test_a_layer_that_leaves_the_cpu_or_stands_for_a_gpu_keeps_nothing():
    layer = KeptLinear(8, 4)
    for leaves in (lambda: counted_for("cuda"), lambda: nullcontext(layer.to("meta"))):
        layer(X)
        with leaves():
            layer(X.to(layer.weight.device))
            assert layer not in kept_weights._kept


@pytest.mark.usefixtures("autocast")
def test_merged_lora_follows_its_corrections():
    layer = LoRAQKV(8, rank=2).eval()
    with torch.no_grad():
        before = layer(X)
        layer.lora_b_q.normal_()
        after = layer(X)
        with torch.autocast("cpu", enabled=False):
            merged = layer.merged_weight()
    assert not after.equal(before)
    assert after.equal(nn.functional.linear(X, merged, layer.bias))
    layer(X).sum().backward()
    assert layer.lora_b_q.grad.abs().max() > 0


@torch.no_grad()
def test_copies_and_pickles_hold_the_layer_alone():
    layer = KeptLinear(8, 4)
    layer(X)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    in_place(layer)
    for other in copies:
        assert other(X).equal(plain(other, X))
        assert list(other.state_dict()) == ["weight", "bias"]
