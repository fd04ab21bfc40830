"""The precision on a CPU: what decides it, what runs in it, and how little it changes."""

import pytest
import torch
from support.configs import wake_up

from nnunetv2_tpmamba.networks import precision
from nnunetv2_tpmamba.networks.precision import VARIABLE, cpu_precision
from nnunetv2_tpmamba.networks.tpmamba import TPMamba


def random_volume(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def in_bfloat16(monkeypatch):
    monkeypatch.setenv(VARIABLE, "bfloat16")


@pytest.mark.parametrize(
    ("variable", "native", "predicting", "training"),
    [
        (None, True, torch.bfloat16, torch.float32),
        ("", True, torch.bfloat16, torch.float32),
        (None, False, torch.float32, torch.float32),
        ("float32", True, torch.float32, torch.float32),
        ("bfloat16", False, torch.bfloat16, torch.bfloat16),
    ],
)
def test_the_variable_decides_then_the_processor(monkeypatch, variable, native, predicting, training):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: native)
    monkeypatch.delenv(VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(VARIABLE, variable)
    assert cpu_precision(training=False) == predicting
    assert cpu_precision(training=True) == training


def test_another_value_is_refused(tiny_config, monkeypatch):
    monkeypatch.setenv(VARIABLE, "half")
    with pytest.raises(ValueError, match="TPMAMBA_CPU_PRECISION is 'half'; set it to float32 or bfloat16, or unset it"):
        TPMamba(1, 2, tiny_config)(random_volume(1, 1, 2, 16, 16))


def test_without_onednn_nothing_is_lowered(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not precision.has_bfloat16()


@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("training", [False, True])
def test_products_are_lowered_and_planes_and_result_are_not(tiny_config, training):
    network, seen = wake_up(TPMamba(1, 2, tiny_config)).train(training), {}
    block, adapter = network.encoder.blocks[0], network.adapters[0]
    lowered = {"qkv": block.attn.qkv, "mlp": block.mlp, "narrow": adapter.narrow[0], "widen": adapter.widen}
    lowered |= {"decoder": network.decoder.join}
    for name, part in {**lowered, "plane": adapter.planes["hw"]}.items():
        part.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.dtype}))
    logits = network(random_volume(1, 1, 4, 16, 16))
    assert seen == {**dict.fromkeys(lowered, torch.bfloat16), "plane": torch.float32}
    assert logits.dtype == torch.float32


def output_and_gradients(network, volume):
    network.zero_grad()
    logits = network(volume)
    logits.square().mean().backward()
    return [logits.detach(), *(p.grad for p in network.parameters() if p.requires_grad)]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_output_and_gradients_are_nearly_those_of_float32(tiny_config, monkeypatch, checkpointing):
    network, volume = wake_up(TPMamba(1, 2, tiny_config)), random_volume(1, 1, 4, 16, 16)
    network.checkpointing = checkpointing
    results = {}
    for name in ("float32", "bfloat16"):
        monkeypatch.setenv(VARIABLE, name)
        results[name] = output_and_gradients(network, volume)
    exact, lower = results.values()
    assert not lower[0].equal(exact[0])
    assert (lower[0] - exact[0]).norm() < 0.03 * exact[0].norm()
    assert all(x.dtype == torch.float32 for x in lower)
    exact, lower = (torch.cat([x.flatten() for x in gradients]) for _, *gradients in (exact, lower))
    assert (lower - exact).norm() < 0.1 * exact.norm()


@torch.no_grad()
@pytest.mark.usefixtures("in_bfloat16")
def test_large_tokens_stay_finite(tiny_config):
    network = wake_up(TPMamba(1, 2, tiny_config)).eval()
    network.encoder.pos_embed.fill_(1e4)
    assert torch.isfinite(network(random_volume(1, 1, 4, 16, 16))).all()


@torch.no_grad()
@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_voxel_is_not_hidden(tiny_config, bad):
    volume = random_volume(1, 1, 4, 16, 16)
    volume[0, 0, 1, 3, 3] = bad
    assert not torch.isfinite(wake_up(TPMamba(1, 2, tiny_config)).eval()(volume)).all()


@torch.no_grad()
@pytest.mark.usefixtures("in_bfloat16")
def test_weights_stay_float32(tiny_config):
    network = TPMamba(1, 2, tiny_config).eval()
    before = {name: x.clone() for name, x in network.state_dict().items()}
    network(random_volume(1, 1, 2, 16, 16))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(after[name].dtype == torch.float32 and after[name].equal(x) for name, x in before.items())


@torch.no_grad()
def test_autocast_of_the_caller_decides(tiny_config, monkeypatch):
    monkeypatch.setattr(precision, "cpu_precision", lambda training: pytest.fail("asked although autocast is on"))
    with torch.autocast("cpu", torch.float16):
        assert TPMamba(1, 2, tiny_config).eval()(random_volume(1, 1, 2, 16, 16)).dtype == torch.float16
