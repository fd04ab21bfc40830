"""The network with each adapter that the config can name: what holds for all of them."""

from dataclasses import replace

import pytest
import torch
from support.configs import wake_up

from nnunetv2_tpmamba import TPMamba

CHANGES = {
    "tri-plane": {},
    "convolution": {"adapter": "convolution"},
    "attention": {"adapter": "attention"},
    "none": {"adapter": "none"},
    "convolutions alone": {"planes": (), "conv_kernel": 5},
    "planes alone": {"dilations": (), "conv_kernel": 1},
    "neither": {"planes": (), "dilations": ()},
    "volume in both directions": {"planes": ("volume",), "bidirectional": True},
}
VOLUME = (1, 1, 4, 16, 16)


@pytest.fixture(params=CHANGES)
def config(request, tiny_config):
    return replace(tiny_config, **CHANGES[request.param])


def test_a_fresh_network_gives_exactly_sams_features(config):
    network = TPMamba(1, 2, config)
    volume = torch.rand(VOLUME)
    slices = volume.expand(-1, 3, -1, -1, -1).transpose(1, 2).flatten(0, 1)
    slices = torch.nn.functional.interpolate(slices, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        for ours, sams in zip(network.features(volume), network.encoder(slices), strict=True):
            assert torch.equal(ours.flatten(0, 1), sams)


def test_every_trained_parameter_gets_a_gradient_and_no_frozen_one(config):
    network = wake_up(TPMamba(1, 3, config))
    network(torch.rand(VOLUME)).square().mean().backward()
    without = {name for name, p in network.named_parameters() if p.grad is None or torch.all(p.grad == 0)}
    assert without == {name for name, p in network.named_parameters() if not p.requires_grad}


def test_recomputing_blocks_changes_no_gradient(config):
    network = wake_up(TPMamba(1, 2, config))
    volume, results = torch.rand(VOLUME), []
    for network.checkpointing in (False, True):
        network.zero_grad()
        network(volume).square().mean().backward()
        results.append([p.grad for p in network.parameters() if p.requires_grad])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-8)


def test_finite_under_fp16_at_extreme_scales(config):
    """A residual stream of 1e4 and more, whose sums overflow fp16."""
    network = wake_up(TPMamba(1, 2, config))
    with torch.no_grad():
        network.encoder.pos_embed.mul_(1e6)
    with torch.autocast("cpu", dtype=torch.float16):
        logits = network(torch.rand(VOLUME))
    logits.float().square().mean().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["convolution", "attention", "neither", "volume in both directions"])
def test_compiles_without_graph_breaks(tiny_config, in_float32, name):
    network = wake_up(TPMamba(1, 2, replace(tiny_config, **CHANGES[name]))).eval()
    volume = torch.rand(1, 1, 2, 16, 16)
    with torch.no_grad():
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(volume), network(volume), rtol=1e-4, atol=1e-5)


def test_without_an_adapter_nothing_of_it_is_in_a_checkpoint(tiny_config):
    plain = TPMamba(1, 2, replace(tiny_config, adapter="none"))
    with_adapters = TPMamba(1, 2, tiny_config)
    others = [name for name in with_adapters.state_dict() if not name.startswith("adapters.")]
    assert list(plain.state_dict()) == others


def test_an_unknown_adapter_is_refused(tiny_config):
    with pytest.raises(ValueError, match="adapter 'conv': it must be 'tri-plane', 'convolution', 'attention' or"):
        TPMamba(1, 2, replace(tiny_config, adapter="conv"))
