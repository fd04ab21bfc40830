"""The whole network: what is frozen, what reads what, and that compiling or recomputing changes nothing."""

import doctest
from dataclasses import replace

import pytest
import torch
from support.configs import wake_up

from nnunetv2_tpmamba import TPMamba, TPMambaConfig
from nnunetv2_tpmamba.networks import tpmamba
from nnunetv2_tpmamba.networks.device import counted_for
from nnunetv2_tpmamba.trainers.memory import training_step_bytes


def random_volume(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("channels", "classes", "upsample", "shape"),
    [
        (1, 2, 2, (3, 24, 32)),
        (1, 14, 2, (1, 8, 8)),
        (3, 2, 2, (2, 16, 8)),
        (2, 1, 2, (2, 8, 8)),
        (5, 100, 2, (1, 16, 16)),
        (1, 3, 1, (2, 16, 48)),
    ],
)
def test_output_has_the_input_size(tiny_config, channels, classes, upsample, shape):
    network = TPMamba(channels, classes, replace(tiny_config, in_plane_upsample=upsample))
    assert network(random_volume(2, channels, *shape)).shape == (2, classes, *shape)


def test_fresh_network_gives_exactly_sams_features(tiny_config):
    """LoRA's B and the adapters' last layers start at zero."""
    network = TPMamba(1, 2, tiny_config)
    volume = random_volume(2, 1, 3, 16, 24)
    slices = volume.expand(-1, 3, -1, -1, -1).transpose(1, 2).flatten(0, 1)
    slices = torch.nn.functional.interpolate(slices, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        for ours, sams in zip(network.features(volume), network.encoder(slices), strict=True):
            assert torch.equal(ours.flatten(0, 1), sams)


def test_every_trainable_parameter_gets_a_gradient_and_no_frozen_one(tiny_config):
    network = wake_up(TPMamba(2, 3, tiny_config))
    network(random_volume(1, 2, 3, 16, 16)).square().mean().backward()
    without = {name for name, p in network.named_parameters() if p.grad is None or torch.all(p.grad == 0)}
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert without == frozen


def test_what_is_frozen(tiny_config):
    network = TPMamba(2, 3, tiny_config)
    for name, parameter in network.named_parameters():
        is_sams = name.startswith("encoder.") and ".lora_" not in name
        assert parameter.requires_grad != is_sams, name


def test_from_scratch_everything_trains(tiny_config):
    network = TPMamba(1, 3, replace(tiny_config, pretrained=False))
    assert all(p.requires_grad for p in network.parameters())


def test_the_example_of_the_docstring_runs():
    (example,) = doctest.DocTestFinder(recurse=False).find(TPMamba, globs={**vars(tpmamba), "TPMamba": TPMamba})
    assert doctest.DocTestRunner().run(example) == (0, 3)


def test_the_default_network_has_the_documented_size():
    """The design's numbers: about 106 M parameters, 17 M of them trained."""
    with torch.device("meta"):
        network = TPMamba(1, 14)
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert (round(total / 1e6), round(trained / 1e6)) == (106, 17)


def test_default_numbers_are_the_papers():
    config = TPMambaConfig()
    assert (config.embed_dim, config.depth, config.num_heads, config.encoder_patch_size) == (768, 12, 12, 16)
    assert (config.adapter_dim, config.dilations) == (96, (1, 2, 4, 8))


def test_one_adapter_after_each_block(tiny_config):
    network = wake_up(TPMamba(1, 2, tiny_config))
    volume = random_volume(1, 1, 4, 16, 16)
    assert len(network.adapters) == len(network.encoder.blocks)
    before = network.features(volume)
    network.adapters[2].widen.weight.data.zero_()
    after = network.features(volume)
    assert [torch.equal(b, a) for b, a in zip(before, after, strict=True)] == [True, True, False, False]


def test_adapters_have_the_dilations_of_the_config(tiny_config):
    network = TPMamba(1, 2, replace(tiny_config, dilations=(3, 1)))
    for adapter in network.adapters:
        assert [branch[0].dilation for branch in adapter.multi_scale] == [(3, 1, 1), (1, 1, 1)]


def test_decoder_reads_the_last_four_blocks(tiny_config):
    network = wake_up(TPMamba(1, 2, replace(tiny_config, depth=6)))
    seen = []
    network.decoder.register_forward_pre_hook(lambda module, args: seen.extend(args[0]))
    volume = random_volume(1, 1, 2, 16, 16)
    network(volume)
    for read, feature in zip(seen, network.features(volume)[2:], strict=True):
        assert torch.equal(read, feature.permute(0, 4, 1, 2, 3))


def test_batch_of_two_is_two_batches_of_one(tiny_config):
    network = wake_up(TPMamba(1, 3, tiny_config)).eval()
    volumes = random_volume(2, 1, 3, 16, 16)
    with torch.no_grad():
        together = network(volumes)
        apart = torch.cat([network(volumes[:1]), network(volumes[1:])])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_depth_is_seen_only_through_the_adapters(tiny_config):
    """A frozen slice encoder alone keeps slices apart; the adapters connect them."""
    volume = random_volume(1, 1, 5, 16, 16).requires_grad_()
    for network, slices in (TPMamba(1, 2, tiny_config), [2]), (wake_up(TPMamba(1, 2, tiny_config)), [0, 1, 2, 3, 4]):
        feature = network.features(volume)[-1][0, 2]
        gradient = torch.autograd.grad((feature * random_volume(*feature.shape)).sum(), volume)[0][0, 0]
        assert gradient.abs().sum((1, 2)).nonzero().flatten().tolist() == slices


def test_one_channel_equals_three_equal_channels(tiny_config):
    one, three = TPMamba(1, 2, tiny_config), TPMamba(3, 2, tiny_config)
    three.load_state_dict(one.state_dict())
    volume = random_volume(1, 1, 2, 16, 16)
    assert torch.equal(one(volume), three(volume.repeat(1, 3, 1, 1, 1)))


def test_other_channel_counts_start_as_the_mean(tiny_config):
    one, five = TPMamba(1, 2, tiny_config), TPMamba(5, 2, tiny_config)
    five.load_state_dict(one.state_dict(), strict=False)
    volume = random_volume(1, 5, 2, 16, 16)
    torch.testing.assert_close(five(volume), one(volume.mean(1, keepdim=True)), rtol=1e-3, atol=1e-4)


def test_lora_is_merged_in_evaluation_and_predicts_the_same(tiny_config, in_float32):
    network = wake_up(TPMamba(1, 2, tiny_config)).eval()
    volume = random_volume(1, 1, 3, 16, 16)
    with torch.no_grad():
        merged = network(volume)
        torch.testing.assert_close(network.train()(volume), merged, rtol=1e-5, atol=1e-5)


def test_without_lora_no_parameter_of_the_encoder_trains(tiny_config):
    network = TPMamba(1, 2, replace(tiny_config, lora_rank=0))
    assert not any("lora" in name for name, _ in network.named_parameters())
    assert all(not p.requires_grad for p in network.encoder.parameters())
    network(random_volume(1, 1, 2, 8, 8))


def test_load_sam_puts_the_encoder_in_place_and_leaves_the_rest(tiny_config):
    network = wake_up(TPMamba(1, 2, tiny_config))
    donor = TPMamba(1, 2, replace(tiny_config, lora_rank=0)).encoder.state_dict()
    others = {n: x.clone() for n, x in network.state_dict().items() if not n.startswith("encoder.") or ".lora_" in n}
    network.load_sam(donor)
    state = network.state_dict()
    assert all(torch.equal(state[f"encoder.{name}"], x) for name, x in donor.items())
    assert all(torch.equal(state[name], x) for name, x in others.items())


def test_load_sam_refuses_what_does_not_fit(tiny_config):
    network = TPMamba(1, 2, tiny_config)
    donor = TPMamba(1, 2, replace(tiny_config, lora_rank=0, depth=5)).encoder.state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        network.load_sam(donor)


def test_segmentation_layer_is_the_one_nnunet_skips_across_label_sets(tiny_config):
    two, five = (TPMamba(1, n, tiny_config).state_dict() for n in (2, 5))
    different = {name for name in two if two[name].shape != five[name].shape}
    assert different == {name for name in two if ".seg_layers." in name}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiles_without_graph_breaks(tiny_config, checkpointing):
    _compiled_equals_eager(replace(tiny_config, checkpointing=checkpointing), "aot_eager")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_that_are_alike_are_compiled_once(tiny_config, checkpointing):
    """One graph of all blocks takes minutes to compile. The first block stands alone: its input has no gradient."""
    torch.compiler.reset()  # what other tests compiled counts towards torch's limit
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    indices = (3, 7)  # blocks that attend to the whole slice
    config = replace(tiny_config, depth=8, global_attn_indexes=indices, checkpointing=checkpointing)
    network = torch.compile(TPMamba(1, 2, config), backend=backend)
    for _ in range(2):
        network(random_volume(1, 1, 2, 16, 16))
    embed, first, windowed, whole, decode = range(5)
    assert len(graphs) == len((embed, first, windowed, whole, decode))


@pytest.mark.slow
def test_compiled_by_inductor_it_gives_the_same(tiny_config):
    """nnU-Net's default on a GPU; on a CPU inductor writes C++."""
    _compiled_equals_eager(tiny_config, "inductor")


def _compiled_equals_eager(config, backend):
    network = wake_up(TPMamba(1, 2, config))
    volume = random_volume(1, 1, 2, 16, 16)
    logits, gradients = _forward_and_backward(network, network, volume)
    torch.compiler.reset()
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    compiled_logits, compiled_gradients = _forward_and_backward(compiled, network, volume)
    torch.testing.assert_close(compiled_logits, logits, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled_gradients[name], gradient, rtol=1e-3, atol=1e-6)


def test_checkpointing_on_a_cpu_gives_freed_memory_back_before_each_block(tiny_config, monkeypatch):
    """Once in the forward and once in the backward pass."""
    given_back = []
    monkeypatch.setattr(tpmamba, "give_back_freed_memory", lambda: given_back.append(True))
    network, volume = TPMamba(1, 2, replace(tiny_config, checkpointing=True)), torch.rand(1, 1, 4, 16, 16)
    network(volume).sum().backward()
    assert len(given_back) == 2 * tiny_config.depth
    with torch.no_grad():
        network(volume)
    network.checkpointing = False
    network(volume).sum().backward()
    network.checkpointing = True
    with counted_for("cuda"):
        network(volume).sum().backward()
    training_step_bytes(network, (1, 1, 4, 16, 16), "cpu")
    assert len(given_back) == 2 * tiny_config.depth


def test_checkpointing_changes_memory_and_nothing_else(tiny_config):
    network = wake_up(TPMamba(1, 2, tiny_config))
    names = network.state_dict().keys()
    volume = random_volume(1, 1, 3, 16, 16)
    results = []
    for network.checkpointing in (False, True):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, k=kept: k.append(x.numel()) or x, lambda x: x):
            network(volume)
        results.append((sum(kept), *_forward_and_backward(network, network, volume)))
        assert network.state_dict().keys() == names
    (plain, logits, gradients), (checkpointed, same_logits, same_gradients) = results
    assert checkpointed < plain / 2
    assert torch.equal(same_logits, logits)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-5, atol=1e-8)


def _forward_and_backward(forward, network, volume):
    network.zero_grad(set_to_none=True)
    logits = forward(volume)
    logits.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return logits.detach(), gradients


@pytest.mark.parametrize(
    ("patch_size", "upsample", "good"),
    [
        ((20, 250, 250), 2, "(20, 248, 248)"),
        ((20, 250, 250), 1, "(20, 256, 256)"),
        ((4, 3, 20), 2, "(4, 8, 16)"),
        ((0, 16, 16), 2, "(1, 16, 16)"),
    ],
)
def test_bad_patch_size_names_the_nearest_good_one(tiny_config, patch_size, upsample, good):
    network = TPMamba(1, 2, replace(tiny_config, in_plane_upsample=upsample))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        network(torch.zeros(1, 1, *patch_size))
    assert str(error.value) == (
        f"patch size {patch_size}: H and W must be multiples of {16 // upsample}; set patch_size to e.g. {good}"
    )


def test_wrong_input_is_named(tiny_config):
    network = TPMamba(2, 2, tiny_config)
    with pytest.raises(ValueError, match=r"\(B, 2, D, H, W\) is needed, this network was built for 2 channel"):
        network(torch.zeros(1, 1, 2, 16, 16))
    with pytest.raises(ValueError, match=r"input of shape \(2, 16, 16\)"):
        network(torch.zeros(2, 16, 16))


def test_fewer_than_four_blocks_are_refused(tiny_config):
    with pytest.raises(ValueError, match="depth 3: at least 4 blocks are needed"):
        TPMamba(1, 2, replace(tiny_config, depth=3))


@pytest.mark.gpu
def test_gpu_trains_compiled_under_fp16(tiny_config):
    """As stock nnU-Net trains on a GPU: compiled, fp16 autocast, scaled loss."""
    network = wake_up(TPMamba(1, 2, tiny_config)).cuda()
    compiled = torch.compile(network)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-3)
    scaler = torch.amp.GradScaler("cuda")
    for step in range(20):
        with torch.autocast("cuda"):
            loss = compiled(random_volume(1, 1, 8, 16, 16, seed=step).cuda()).float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_finite_under_autocast_at_extreme_scales(tiny_config, dtype, checkpointing):
    """A residual stream of 1e4 and more, whose sums overflow fp16, and adapters ten times their size."""
    network = wake_up(TPMamba(1, 2, replace(tiny_config, checkpointing=checkpointing)))
    with torch.no_grad():
        network.encoder.pos_embed.mul_(1e6)
        for parameter in network.adapters.parameters():
            parameter.mul_(10)
    volume = random_volume(1, 1, 4, 16, 16)
    with torch.autocast("cpu", dtype=dtype):
        assert network.features(volume)[0].abs().max() > 1e4
        logits = network(volume)
    assert torch.isfinite(logits).all()
    logits.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name


def test_autocast_changes_little(tiny_config, in_float32):
    network = wake_up(TPMamba(1, 2, tiny_config)).eval()
    volume = random_volume(1, 1, 4, 16, 16)
    with torch.no_grad():
        exact = network(volume)
        with torch.autocast("cpu", dtype=torch.float16):
            lower = network(volume)
    assert (lower - exact).norm() < 0.02 * exact.norm()
