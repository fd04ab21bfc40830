"""MA-SAM: where its adapters stand, what they see, what trains, and that a fresh one is SAM."""

from dataclasses import replace

import pytest
import torch
from support.configs import TINY, wake_up

from nnunetv2_tpmamba.config import MASAM_CONFIG
from nnunetv2_tpmamba.networks.baselines.masam import MASAM

CONFIG = replace(TINY, adapter="convolution", adapter_dim=16)


def random_volume(*shape):
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))


def test_the_adapters_have_the_known_size():
    with torch.device("meta"):
        adapters = MASAM(1, 14, MASAM_CONFIG).adapters
    one = {
        "norm.weight": (768,),
        "norm.bias": (768,),
        "down.weight": (384, 768),
        "conv.weight": (384, 384, 3, 1, 1),
        "conv.bias": (384,),
        "up.weight": (768, 384),
    }
    for place in ("before_attention", "before_mlp"):
        assert {name: x.shape for name, x in adapters[0][place].state_dict().items()} == one
    assert sum(p.numel() for p in adapters.parameters()) == 24_818_688


def test_adapters_come_before_the_first_norm_and_between_attention_and_mlp():
    network, ran = MASAM(1, 2, CONFIG), []
    for i in range(CONFIG.depth):
        adapters, block = network.adapters[i], network.encoder.blocks[i]
        parts = {"adapter 1": adapters["before_attention"], "norm 1": block.norm1, "attention": block.attn.proj}
        parts |= {"adapter 2": adapters["before_mlp"], "norm 2": block.norm2, "MLP": block.mlp}
        for name, part in parts.items():
            part.register_forward_hook(lambda *_, i=i, name=name: ran.append((i, name)))
    network(random_volume(3, 16, 24))
    order = ("adapter 1", "norm 1", "attention", "adapter 2", "norm 2", "MLP")
    assert ran == [(i, name) for i in range(CONFIG.depth) for name in order]


@pytest.mark.parametrize(("places", "seen"), [((), 0), (("before_attention",), 1), (("before_mlp",), 1), (None, 2)])
def test_an_adapter_sees_the_next_slices_and_the_block_only_its_own(places, seen):
    network = wake_up(MASAM(1, 2, CONFIG))
    for place in {"before_attention", "before_mlp"} - set(places if places is not None else network.adapters[0]):
        network.adapters[0][place].up.weight.data.zero_()
    volume = random_volume(7, 16, 16).requires_grad_()
    feature = network.features(volume)[0][0, 3]
    gradient = torch.autograd.grad((feature * torch.randn(feature.shape)).sum(), volume)[0][0, 0]
    assert gradient.abs().sum((1, 2)).nonzero().flatten().tolist() == list(range(3 - seen, 4 + seen))


def test_a_fresh_network_gives_exactly_sams_features():
    network, volume = MASAM(1, 2, CONFIG), random_volume(3, 16, 24)
    slices = volume[0].expand(3, -1, -1, -1).transpose(0, 1)
    slices = torch.nn.functional.interpolate(slices, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        for ours, sams in zip(network.features(volume), network.encoder(slices), strict=True):
            assert torch.equal(ours[0], sams)


def test_what_trains_gets_a_gradient_and_what_is_frozen_stays():
    network = MASAM(2, 3, CONFIG)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name in before if not name.startswith("encoder.") or ".lora_" in name} == trained
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):  # layers behind one that starts at zero move in the second step
        optimizer.zero_grad()
        network(random_volume(3, 16, 16).expand(1, 2, -1, -1, -1)).square().mean().backward()
        assert {name for name, p in network.named_parameters() if p.grad is not None} == trained
        optimizer.step()
    assert all(network.get_parameter(name).grad.any() for name in trained)
    assert {name for name, p in network.named_parameters() if not torch.equal(p, before[name])} == trained


def test_recomputing_changes_memory_and_nothing_else():
    network, volume, results = wake_up(MASAM(1, 2, CONFIG)), random_volume(3, 16, 16), []
    for network.checkpointing in (False, True):
        kept = []
        network.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda x, k=kept: k.append(x.numel()) or x, lambda x: x):
            logits = network(volume)
        logits.square().mean().backward()
        results.append((sum(kept), logits, [p.grad.clone() for p in network.parameters() if p.requires_grad]))
    (plain, logits, gradients), (recomputed, same_logits, same_gradients) = results
    assert recomputed < plain / 2
    assert torch.equal(same_logits, logits)
    torch.testing.assert_close(same_gradients, gradients, rtol=1e-5, atol=1e-8)


def test_a_block_with_its_adapters_compiles_without_graph_breaks():
    network, stack = wake_up(MASAM(1, 2, CONFIG)), torch.randn(1, 3, 4, 4, CONFIG.embed_dim)
    block, adapters = network.encoder.blocks[0], network.adapters[0]
    compiled = torch.compile(network.run_block, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(block, adapters, stack), network.run_block(block, adapters, stack))


def test_finite_under_fp16_where_sams_features_are_large():
    network = wake_up(MASAM(1, 2, CONFIG))
    network.encoder.pos_embed.data.mul_(1e6)
    with torch.autocast("cpu", dtype=torch.float16):
        assert network.features(random_volume(3, 16, 16))[0].abs().max() > 1e4
        logits = network(random_volume(3, 16, 16))
    logits.float().square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
