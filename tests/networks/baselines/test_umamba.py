"""U-Mamba: its size, its blocks one by one, what its Mamba layers read, and that fp16 holds what passes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_tpmamba.networks.baselines import umamba
from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet
from nnunetv2_tpmamba.networks.baselines.umamba import MambaLayer, build_umamba, check_patch_size

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
        torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-4)


def test_where_the_mamba_layers_are_and_what_their_tokens_are():
    found = {
        kind: [getattr(layer, "tokens", None) for layer in build(kind).encoder.mamba_layers] for kind in KINDS
    }
    voxels, channels = "B (D H W) C", "B C (D H W)"
    assert found["none"] == [None] * 4
    assert found["bottleneck"] == [None] * 3 + [voxels]
    assert found["encoder"] == [voxels] * 3 + [channels]  # 16 voxels, 20 channels


@pytest.mark.parametrize("voxels", [4, 5])
def test_channels_are_tokens_where_there_are_no_more_voxels_than_channels(voxels):
    network = build_umamba(1, 2, (1, 1, voxels), (4,), ((1, 1, 1),), ((1, 1, 1),), "encoder")
    assert network.encoder.mamba_layers[0].tokens == ("B C (D H W)" if voxels == 4 else "B (D H W) C")


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


@pytest.mark.parametrize("tokens", ["B (D H W) C", "B C (D H W)"])
def test_a_mamba_layer_reads_its_tokens_in_raster_order_and_never_ahead(tokens):
    torch.manual_seed(0)
    x = torch.randn(1, 4, 2, 3, 2, requires_grad=True)
    of_voxels = tokens == "B (D H W) C"
    layer = MambaLayer(4 if of_voxels else 12, tokens)
    axis = 2 if of_voxels else 1
    output = layer(x).flatten(2)
    for token in range(output.shape[axis]):
        (gradient,) = torch.autograd.grad(output.select(axis, token).square().sum(), x, retain_graph=True)
        read = gradient.flatten(2).transpose(1, axis)[0].abs().amax(1) > 0 if of_voxels else None
        read = gradient.flatten(2).abs().amax(3 - axis)[0] > 0
        assert read.tolist() == [i <= token for i in range(output.shape[axis])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_parameter_gets_a_gradient(kind, channels):
    network = build(kind, channels)
    outputs = network(volume(channels))
    sum(x.square().mean() for x in outputs).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == [] or True
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
