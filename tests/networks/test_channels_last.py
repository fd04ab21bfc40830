"""Layers that leave channels last in memory, against PyTorch's own."""

import pytest
import torch
from torch import nn

from nnunetv2_tpmamba.networks.channels_last import LayoutKeepingGELU, LayoutKeepingInstanceNorm
from nnunetv2_tpmamba.networks.decoder import Decoder
from nnunetv2_tpmamba.networks.device import counted_for

LAYERS = {
    "instance norm": (lambda: LayoutKeepingInstanceNorm(6, affine=True), lambda: nn.InstanceNorm3d(6, affine=True)),
    "GELU": (LayoutKeepingGELU, nn.GELU),
}
SHAPES = [(1, 6, 5, 4, 3), (2, 6, 1, 3, 7), (3, 6, 1, 1, 2)]


def output_and_gradients(layer, x, channels_last):
    x = x.clone(memory_format=torch.channels_last_3d if channels_last else torch.contiguous_format).requires_grad_()
    output = layer(x)
    factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    return [output, *torch.autograd.grad((output * factors).sum(), [x, *layer.parameters()])]


def randomised(layer):
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.double()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_result_and_gradients_are_pytorchs_and_channels_stay_last(name, shape):
    ours, torchs = (randomised(make()) for make in LAYERS[name])
    x = torch.randn(shape, dtype=torch.float64)
    expected = output_and_gradients(torchs, x, channels_last=False)
    for channels_last in (True, False):
        actual = output_and_gradients(ours, x, channels_last)
        for a, e in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)
        layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        assert all(t.is_contiguous(memory_format=layout) for t in actual[:1])


def test_instance_norm_of_many_voxels_is_as_accurate_as_pytorchs():
    """PyTorch's batch norm, which adds up these 393,216 voxels one after the other, is wrong by 1e-4."""
    x = 3 + 2 * torch.randn(1, 6, 64, 64, 96, generator=torch.Generator().manual_seed(0))
    ours, torchs = (randomised(make()).float() for make in LAYERS["instance norm"])
    actual = output_and_gradients(ours, x, channels_last=True)
    exact, *gradients = output_and_gradients(torchs.double(), x.double(), channels_last=False)
    assert (actual[0] - exact).abs().max() < 5e-6
    assert all((a - g).norm() < 1e-5 * g.norm() for a, g in zip(actual[1:], gradients, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_in_float32_it_is_pytorchs_too(shape):
    ours, torchs = (randomised(make()).float() for make in LAYERS["instance norm"])
    x = torch.randn(shape)
    pairs = zip(output_and_gradients(ours, x, True), output_and_gradients(torchs, x, False), strict=True)
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"affine": True, "track_running_stats": True}])
def test_an_instance_norm_of_another_kind_is_pytorchs(options):
    x = torch.randn(2, 6, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d)
    layers = LayoutKeepingInstanceNorm(6, **options), nn.InstanceNorm3d(6, **options)
    ours, torchs = (layer(x) for layer in layers)
    torch.testing.assert_close(ours, torchs)
    assert all(a.equal(b) for a, b in zip(*(layer.state_dict().values() for layer in layers), strict=True))


def test_what_stands_for_a_gpu_gets_pytorchs_layout():
    x = torch.randn(2, 6, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d)
    with counted_for("cuda"):
        assert LayoutKeepingInstanceNorm(6, affine=True)(x).is_contiguous()


@pytest.mark.parametrize("batch", [1, 2])
def test_the_decoder_convolves_with_channels_last_and_gives_them_first(batch):
    decoder = Decoder(96, 5, dim=48)
    layouts = []
    for layer in decoder.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layer.register_forward_hook(lambda layer, inputs, output: layouts.append((inputs[0], output)))
    # PyTorch puts channels first where channels, depth and rows of a single volume have less than 20481 values
    logits = decoder([torch.randn(batch, 64, 4, 2, 96).permute(0, 4, 1, 2, 3) for _ in range(4)])
    assert logits.is_contiguous()
    assert all(x.is_contiguous(memory_format=torch.channels_last_3d) for pair in layouts for x in pair)


def test_the_decoder_is_what_it_is_with_channels_first():
    torch.manual_seed(0)
    decoder = Decoder(12, 5, dim=8).double()
    features = [torch.randn(2, 12, 3, 2, 4, dtype=torch.float64) for _ in range(4)]
    results = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        inputs = [x.clone(memory_format=layout).requires_grad_() for x in features]
        output = decoder(inputs)
        results.append([output, *torch.autograd.grad(output.square().sum(), [*inputs, *decoder.parameters()])])
    for first, last in zip(*results, strict=True):
        torch.testing.assert_close(last, first, rtol=1e-9, atol=1e-9)
