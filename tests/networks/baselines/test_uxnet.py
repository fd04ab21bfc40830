"""3D UX-Net: its size is its authors', its blocks equal a plain computation, and MONAI's parts read every map."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_tpmamba.networks.baselines.uxnet import ChannelNorm, Encoder, UXBlock, build_uxnet

SMALLEST = (32, 32, 32)
SIZES = {"features_per_stage": (2, 4, 8, 16), "blocks_per_stage": (1, 1, 1, 1)}


@pytest.fixture
def small():
    torch.manual_seed(0)
    return build_uxnet(1, 3, SMALLEST, **SIZES)


def test_the_papers_network_has_the_known_size():
    with torch.device("meta"):
        network = build_uxnet(1, 14, (96, 96, 96))
        with FlopCounterMode(display=False) as counter:
            assert network(torch.empty(1, 1, 96, 96, 96)).shape == (1, 14, 96, 96, 96)
    assert sum(p.numel() for p in network.parameters()) == 53_006_510
    assert counter.get_total_flops() / 2e9 == pytest.approx(578, abs=0.5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_batch_of_one_gives_every_parameter_a_gradient(channels):
    network = build_uxnet(channels, 3, SMALLEST, **SIZES)
    output = network(torch.rand(1, channels, *SMALLEST))
    output.logsumexp(1).square().mean().backward()
    assert output.shape == (1, 3, *SMALLEST)
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_a_block_equals_a_plain_computation():
    C = 3
    block = UXBlock(C, layer_scale=0.7)
    wide, norm, expand, _, reduce = block.branch
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, C, 4, 5, 6)

    y = F.conv3d(x, wide.weight, wide.bias, padding=3, groups=C)
    mean, variance = y.mean(1, keepdim=True), y.var(1, keepdim=True, correction=0)
    y = (y - mean) / (variance + 1e-6).sqrt() * norm.weight.view(-1, 1, 1, 1) + norm.bias.view(-1, 1, 1, 1)
    y = y.unsqueeze(2) * expand.weight.view(C, 4, 1, 1, 1) + expand.bias.view(C, 4, 1, 1, 1)  # each channel by itself
    y = (F.gelu(y) * reduce.weight.view(C, 4, 1, 1, 1)).sum(2) + reduce.bias.view(C, 1, 1, 1)
    torch.testing.assert_close(block(x), x + 0.7 * y)


def test_a_fresh_block_is_nearly_the_identity():
    x = torch.randn(1, 4, 8, 8, 8)
    change = UXBlock(4)(x) - x
    assert 0 < change.abs().max() < 1e-5


def test_a_block_reads_a_cube_of_seven_voxels():
    block = UXBlock(4, layer_scale=1.0)
    x = torch.randn(1, 4, 11, 12, 13, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[0, 1, 5, 6, 7], x)
    expected = torch.zeros(11, 12, 13, dtype=torch.bool)
    expected[2:9, 3:10, 4:11] = True
    assert torch.equal(gradient[0].abs().sum(0) > 0, expected)


def test_channels_meet_in_the_layer_norm_alone():
    wide, _, expand, gelu, reduce = UXBlock(4).branch
    x = torch.randn(1, 4, 8, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(reduce(gelu(expand(wide(x))))[:, 2].sum(), x)
    assert (gradient.abs().sum((0, 2, 3, 4)) > 0).tolist() == [False, False, True, False]


def test_layer_norm_is_per_voxel():
    x = 5 + 3 * torch.randn(2, 16, 2, 3, 4)
    y = ChannelNorm(16)(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(2, 2, 3, 4))


def test_the_encoder_halves_the_sides_and_normalises_what_it_gives_but_not_what_it_reads():
    encoder = Encoder(2, (4, 8), (1, 2))
    volume = torch.rand(1, 2, 8, 12, 16)
    maps = encoder(volume)
    assert [tuple(each.shape) for each in maps] == [(1, 4, 4, 6, 8), (1, 8, 2, 3, 4)]
    nn.init.zeros_(encoder.norms[0].weight)
    changed = encoder(volume)
    assert not changed[0].any()
    assert torch.equal(changed[1], maps[1])


def test_every_map_is_refined_by_monais_block_and_reaches_the_output(small):
    assert all(type(part).__module__.startswith("monai.") for part in (*small.skips, *small.ups, small.refine))
    maps = []
    for skip in small.skips:
        skip.register_forward_hook(lambda module, given, made: maps.append(made))
    output = small(torch.rand(1, 1, *SMALLEST))
    assert [each.shape[1:3] for each in maps] == [(2, 32), (4, 16), (8, 8), (16, 4), (32, 2)]
    gradients = torch.autograd.grad(output.square().mean(), maps)
    assert all(gradient.any() for gradient in gradients)


def test_it_compiles_to_one_graph(small):
    image = torch.rand(1, 1, *SMALLEST)
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), small(image))


def test_intensities_of_thousands_are_finite_under_fp16(small):
    with torch.autocast("cpu", dtype=torch.float16):
        output = small(5e3 * torch.randn(1, 1, *SMALLEST))
        output.log_softmax(1)[:, 0].mean().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize(("patch_size", "good"), [((16, 32, 32), (32, 32, 32)), ((96, 96, 100), (96, 96, 96))])
def test_a_patch_it_cannot_take_is_refused(patch_size, good):
    needed = "the sides must be multiples of 16 and at least 32"
    with pytest.raises(
        ValueError, match=re.escape(f"patch size {patch_size}: {needed}; set patch_size to e.g. {good}")
    ):
        build_uxnet(1, 2, patch_size)
