"""The precision on a CPU: what decides it, what runs in it, and how little it changes."""

import os

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
    lowered = {"qkv": block.attn.qkv, "mlp": block.mlp, "widen": adapter.widen, "decoder": network.decoder.join}
    for name, part in {**lowered, "plane": adapter.planes["hw"]}.items():
        part.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.dtype}))
    adapter.planes["hw"].register_forward_pre_hook(lambda _, inputs: seen.update({"depth": inputs[0].dtype}))
    logits = network(random_volume(1, 1, 4, 16, 16))
    assert seen == {**dict.fromkeys([*lowered, "depth"], torch.bfloat16), "plane": torch.float32}
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
@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("size", [1e-40, 1e-45])  # bfloat16 has the denormal numbers of float32 down to 9e-41
def test_denormal_voxels_are_as_good_as_zero(tiny_config, size):
    network, volume = wake_up(TPMamba(1, 2, tiny_config)).eval(), random_volume(1, 1, 4, 16, 16)
    torch.testing.assert_close(network(size * volume), network(0 * volume), rtol=0.02, atol=0.02)


@torch.no_grad()
@pytest.mark.usefixtures("in_bfloat16")
def test_more_threads_than_cores(tiny_config):
    network, volume = wake_up(TPMamba(1, 2, tiny_config)).eval(), random_volume(1, 1, 4, 16, 16)
    expected, before = network(volume), torch.get_num_threads()
    torch.set_num_threads(4 * (os.cpu_count() or 1))
    try:
        actual = network(volume)
    finally:
        torch.set_num_threads(before)
    assert (actual - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize(("trained_in", "predicting_in"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_what_one_precision_trained_the_other_predicts_with(
    tiny_config, tmp_path, monkeypatch, trained_in, predicting_in
):
    volume = random_volume(1, 1, 4, 16, 16)
    monkeypatch.setenv(VARIABLE, trained_in)
    trained = wake_up(TPMamba(1, 2, tiny_config))
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        trained(volume).square().mean().backward()
        optimizer.step()
    torch.save(trained.state_dict(), tmp_path / "checkpoint.pth")

    network = TPMamba(1, 2, tiny_config).eval()
    network.load_state_dict(torch.load(tmp_path / "checkpoint.pth", weights_only=True))
    with torch.no_grad():
        expected = trained.eval()(volume)
        monkeypatch.setenv(VARIABLE, predicting_in)
        actual = network(volume)
    assert not actual.equal(expected)
    assert (actual - expected).norm() < 0.03 * expected.norm()


def test_what_torch_notes_in_a_function_is_not_copied_to_the_decorated_one():
    """Some versions of torch would call the inner function in place of the outer one, which lowers the precision."""
    inner = torch.compiler.disable(recursive=False)(lambda network, x: x)
    noted = {name for name in vars(inner) if name.startswith("_torch")}
    assert noted
    assert not noted & vars(precision.in_cpu_precision(inner)).keys()


@torch.no_grad()
def test_autocast_of_the_caller_decides(tiny_config, monkeypatch):
    monkeypatch.setattr(precision, "cpu_precision", lambda training: pytest.fail("asked although autocast is on"))
    with torch.autocast("cpu", torch.float16):
        assert TPMamba(1, 2, tiny_config).eval()(random_volume(1, 1, 2, 16, 16)).dtype == torch.float16
