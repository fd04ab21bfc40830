"""U-Mamba: its size, its blocks one by one, what its Mamba layers read, and that fp16 holds what passes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_tpmamba.networks.baselines import umamba
from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet
from nnunetv2_tpmamba.networks.baselines.umamba import MambaLayer, build_umamba, check_patch_size

VOXELS, CHANNELS = "B (D H W) C", "B C (D H W)"
KINDS = ("bottleneck", "encoder", "none")
PATCH = (8, 8, 16)
FEATURES, STRIDES, KERNELS = (4, 6, 8, 20), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 1, 2)), ((1, 3, 3), *[(3, 3, 3)] * 3)


def build(kind, input_channels=1, num_classes=3, patch_size=PATCH):
    torch.manual_seed(0)
    return build_umamba(input_channels, num_classes, patch_size, FEATURES, STRIDES, KERNELS, kind)


def volume(channels=1, batch=1, seed=1):
    return torch.randn(batch, channels, *PATCH, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("kind", "parameters"), [("bottleneck", 22_577_208), ("encoder", 22_815_352), ("none", 21_901_368)]
)
def test_the_network_of_the_papers_patch_has_the_authors_size(kind, parameters):
    sizes = plan_unet((96, 96, 96))["arch_kwargs"]
    sizes = {name: sizes[name] for name in ("features_per_stage", "strides", "kernel_sizes")}
    with torch.device("meta"):
        network = build_umamba(1, 14, (96, 96, 96), **sizes, mamba=kind)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert [len(stage) for stage in (network.encoder.stem, *network.encoder.stages)] == [2, 2, 2, 2, 1, 1]
    assert [len(stage) for stage in network.decoder.stages] == [2, 2, 2, 1]


def assert_same(found, expected, tolerance=1e-4):
    """Instance norm on few voxels makes much of roundings, so single voxels are not compared."""
    assert found.shape == expected.shape
    assert (found - expected).norm() <= tolerance * expected.norm()


def blocks_by_hand(x, blocks, kernel_size, stride):
    """The authors' blocks from plain functions, the first one with its strided shortcut that nothing normalises."""

    def convolved(x, layer, stride=1):
        x = F.conv3d(x, layer.conv.weight, layer.conv.bias, stride, padding=[k // 2 for k in kernel_size])
        return F.instance_norm(x, weight=layer.norm.weight, bias=layer.norm.bias, eps=1e-5)

    for number, block in enumerate(blocks):
        y = F.leaky_relu(convolved(x, block.conv1, stride if number == 0 else 1), 0.01)
        y = convolved(y, block.conv2)
        shortcut = F.conv3d(x, block.skip.weight, block.skip.bias, stride) if number == 0 else x
        x = F.leaky_relu(y + shortcut, 0.01)
    return x


@torch.no_grad()
def test_without_mamba_it_equals_a_step_by_step_computation():
    network = build("none")
    for p in network.parameters():
        p.add_(0.1 * torch.randn_like(p))
    x = blocks_by_hand(volume(), network.encoder.stem, KERNELS[0], 1)
    features = []
    for stage, kernel_size, stride in zip(network.encoder.stages, KERNELS, STRIDES, strict=True):
        x = blocks_by_hand(x, stage, kernel_size, stride)
        features.append(x)
    expected = []
    decoder = network.decoder
    for level in (2, 1, 0):
        number = 2 - level
        x = F.interpolate(x, scale_factor=tuple(map(float, STRIDES[level + 1])), mode="nearest")
        x = F.conv3d(x, *decoder.upsamplings[number][0].parameters())
        x = blocks_by_hand(torch.cat([x, features[level]], 1), decoder.stages[number], KERNELS[level], 1)
        expected.append(F.conv3d(x, *decoder.seg_layers[number].parameters()))
    for found, by_hand in zip(network(volume()), expected[::-1], strict=True):
        assert_same(found, by_hand)


def test_where_the_mamba_layers_are_and_what_their_tokens_are():
    found = {kind: [getattr(layer, "tokens", None) for layer in build(kind).encoder.mamba_layers] for kind in KINDS}
    assert found["none"] == [None] * 4
    assert found["bottleneck"] == [None] * 3 + [VOXELS]
    assert found["encoder"] == [VOXELS] * 3 + [CHANNELS]  # 8 voxels, 20 channels


@pytest.mark.parametrize("voxels", [4, 5])
def test_channels_are_tokens_where_there_are_no_more_voxels_than_channels(voxels):
    network = build_umamba(1, 2, (1, 1, voxels), (4,), ((1, 1, 1),), ((1, 1, 1),), "encoder")
    assert network.encoder.mamba_layers[0].tokens == (CHANNELS if voxels == 4 else VOXELS)


@torch.no_grad()
def test_a_mamba_layer_replaces_what_it_reads():
    network = build("bottleneck")
    layer, seen = network.encoder.mamba_layers[-1], []
    layer.register_forward_hook(lambda layer, inputs, output: seen.append((inputs[0], output)))
    features = network.encoder(volume())
    ((read, written),) = seen
    assert torch.equal(features[-1], written)
    tokens = read.flatten(2).transpose(1, 2)
    by_hand = layer.mamba(F.layer_norm(tokens, (20,), layer.norm.weight, layer.norm.bias))
    torch.testing.assert_close(written.flatten(2), by_hand.transpose(1, 2))


@pytest.mark.parametrize("tokens", [VOXELS, CHANNELS])
def test_a_mamba_layer_reads_its_tokens_in_raster_order_and_never_ahead(tokens):
    torch.manual_seed(0)
    x = torch.randn(1, 4, 2, 3, 2, requires_grad=True)
    of_voxels = tokens == VOXELS
    layer = MambaLayer(4 if of_voxels else 12, tokens)
    axis = 2 if of_voxels else 1
    output = layer(x).flatten(2)
    for token in range(output.shape[axis]):
        (gradient,) = torch.autograd.grad(output.select(axis, token).square().sum(), x, retain_graph=True)
        read = gradient.flatten(2).abs().amax(3 - axis)[0] > 0
        assert read.tolist() == [i <= token for i in range(output.shape[axis])]


@pytest.mark.parametrize(("kind", "channels"), [("bottleneck", 1), ("encoder", 2), ("none", 3), ("none", 4)])
def test_every_parameter_gets_a_gradient(kind, channels):
    network = build(kind, channels)
    sum(x.square().mean() for x in network(volume(channels))).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        if not name.endswith("conv.bias"):  # instance norm takes it away
            assert p.grad.abs().max() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_volumes_one_by_one(kind):
    network, batch = build(kind), volume(batch=2)
    for together, *alone in zip(network(batch), *(network(x[None]) for x in batch), strict=True):
        assert_same(together, torch.cat(alone))


@pytest.mark.parametrize("training", [True, False])
def test_every_resolution_is_predicted_unless_deep_supervision_is_off(training):
    network = build("bottleneck").train(training)
    assert [tuple(x.shape) for x in network(volume())] == [(1, 3, 8, 8, 16), (1, 3, 8, 4, 8), (1, 3, 4, 2, 4)]
    finest = network(volume())[0]
    network.decoder.deep_supervision = False
    assert torch.equal(network(volume()), finest)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_load_strictly_into_a_network_without_deep_supervision(kind):
    trained, loaded = build(kind), build(kind)
    nn.init.normal_(trained.decoder.seg_layers[0].weight)
    loaded.decoder.deep_supervision = False
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded(volume()), trained(volume())[0])


def test_compiles_without_a_graph_break():
    network = build_umamba(1, 2, (2, 4, 4), (4, 8), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3),) * 2, "encoder")
    assert [layer.tokens for layer in network.encoder.mamba_layers] == [VOXELS, CHANNELS]
    x = torch.randn(1, 1, 2, 4, 4)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(x), network(x), strict=True):
        assert_same(found, expected)


def shout(network, factor):
    """Make shortcuts so large that the residual stream leaves the range of fp16."""
    with torch.no_grad():
        for blocks in (network.encoder.stem, *network.encoder.stages):
            blocks[0].skip.weight.mul_(factor)
    return network


def in_half(network):
    with torch.autocast("cpu", dtype=torch.float16):
        return network(volume())


@pytest.mark.parametrize(("kind", "factor"), [("bottleneck", 30), ("encoder", 1e7), ("none", 30)])
def test_fp16_holds_a_residual_stream_that_float32_needs(kind, factor):
    network = shout(build(kind), factor)
    largest = []
    for stage in network.encoder.stages:
        stage.register_forward_hook(lambda stage, inputs, output: largest.append(output.abs().max()))
    expected, found = network(volume()), in_half(network)
    assert max(largest) > 10 * torch.finfo(torch.float16).max
    for half, full in zip(found, expected, strict=True):
        assert half.dtype == torch.float32
        assert_same(half, full, 5e-3)
    loss = sum(x.mean() for x in found) * 1e-6  # as small as nnU-Net's gradient scaler would make it
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize("left_out", ["bounded", "Float32Conv3d"])
def test_fp16_would_overflow_without_either_measure(left_out, monkeypatch):
    network = shout(build("none"), 30)
    if left_out == "bounded":
        monkeypatch.setattr(umamba, "bounded", lambda x: x)
    else:
        monkeypatch.setattr(umamba.Float32Conv3d, "forward", nn.Conv3d.forward)
    assert not all(x.isfinite().all() for x in in_half(network))


@torch.no_grad()
def test_without_autocast_a_double_network_is_double():
    network = build("none").double()
    assert {x.dtype for x in network(volume().double())} == {torch.float64}


def test_a_patch_that_the_strides_do_not_divide_is_refused():
    message = r"patch size \(8, 8, 12\): .*multiples of \(4, 4, 8\); set patch_size to e.g. \(8, 8, (8|16)\)"
    with pytest.raises(ValueError, match=message):
        build("none", patch_size=(8, 8, 12))
    check_patch_size((4, 4, 8), STRIDES)


def test_channel_tokens_need_the_patch_they_were_made_for():
    larger = torch.rand(1, 1, 8, 8, 24)
    with pytest.raises(ValueError, match=r"input has \(8, 8, 24\) voxels, .*takes \(8, 8, 16\) only.*U-Mamba Bot"):
        build("encoder")(larger)
    assert build("bottleneck")(larger)[0].shape == (1, 3, 8, 8, 24)
