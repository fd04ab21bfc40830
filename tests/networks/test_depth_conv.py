"""Convolutions along depth: the product that computes all of them against the layers one by one."""

import pytest
import torch
from torch import nn

from nnunetv2_tpmamba.networks.depth_conv import DepthConv, depth_convs


def random_convs(channels, widths, kernel, dilations):
    torch.manual_seed(0)
    convs = nn.ModuleList(DepthConv(channels, width, kernel, d) for width, d in zip(widths, dilations, strict=True))
    for conv in convs:
        nn.init.normal_(conv[1].weight)
        nn.init.normal_(conv[1].bias)
    return convs


def one_by_one(tokens, convs):
    x = tokens.permute(0, 4, 1, 2, 3)
    return ChannelsLast.apply(torch.cat([conv(x) for conv in convs], dim=1))


class ChannelsLast(torch.autograd.Function):
    """Put channels last, and those of the gradient first; PyTorch's instance norm needs them so in memory."""

    @staticmethod
    def forward(ctx, x):
        return x.permute(0, 2, 3, 4, 1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.permute(0, 4, 1, 2, 3).contiguous()


def output_and_gradients(function, tokens, convs):
    tokens = tokens.detach().requires_grad_()
    output = function(tokens, convs)
    factors = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(1))
    return [output, *torch.autograd.grad((output * factors).sum(), [tokens, *convs.parameters()])]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4, 8), (3, 1)])
@pytest.mark.parametrize("shape", [(1, 12, 3, 2), (2, 5, 1, 3), (3, 1, 2, 2), (1, 2, 1, 1)])
def test_together_they_are_what_they_are_one_by_one(shape, kernel, dilations):
    """Also with fewer slices than the convolutions reach."""
    convs = random_convs(5, range(2, 2 + len(dilations)), kernel, dilations).double()
    tokens = torch.randn(*shape, 5, dtype=torch.float64)
    actual, expected = (output_and_gradients(function, tokens, convs) for function in (depth_convs, one_by_one))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_in_lower_precision_they_are_nearly_the_same(dtype, error):
    convs = random_convs(64, [24] * 4, 3, (1, 2, 4, 8))
    tokens = torch.randn(1, 20, 4, 4, 64)
    exact = output_and_gradients(one_by_one, tokens, convs)
    with torch.autocast("cpu", dtype):
        lower = output_and_gradients(depth_convs, tokens, convs)
    assert lower[0].dtype == dtype
    assert all((low - x).norm() < error * x.norm() for low, x in zip(lower, exact, strict=True))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 4, 8])
def test_depth_conv_reads_as_many_slices_as_its_kernel_at_its_dilation(kernel, dilation):
    conv = DepthConv(2, 2, kernel, dilation)[0]
    x = torch.randn(1, 2, 40, 3, 3, requires_grad=True)
    gradient = torch.autograd.grad(conv(x)[0, 0, 20, 1, 1], x)[0].abs().sum((0, 1)) > 0
    expected = torch.zeros(40, 3, 3, dtype=torch.bool)
    expected[[20 + dilation * step for step in range(-(kernel // 2), kernel // 2 + 1)], 1, 1] = True
    assert torch.equal(gradient, expected)


def test_a_single_voxel_is_its_own_mean():
    convs = random_convs(5, [2, 3], 3, (1, 2))
    output = depth_convs(torch.randn(1, 1, 1, 1, 5), convs)
    torch.testing.assert_close(output.flatten(), nn.functional.gelu(torch.cat([conv[1].bias for conv in convs])))
