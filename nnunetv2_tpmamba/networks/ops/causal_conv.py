"""The short convolution of a Mamba block: each channel of a step from its last few steps."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from nnunetv2_tpmamba.networks.device import is_for_cpu

from .implementations import first_line, in_no_mode


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute :func:`causal_conv_reference`, on a CPU in float32 by a kernel of numba's, if it works.

    PyTorch's own convolution needs the channels before the steps, and takes longer.
    """
    if is_for_cpu(x) and x.dtype == torch.float32 and _numba_works():
        return _causal_conv(x, weight.squeeze(1), bias)
    return causal_conv_reference(x, weight, bias)


def causal_conv_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve every channel on its own with the steps up to its own; steps before the first are zero.

    Source: Gu and Dao, "Mamba", 2023, figure 3; ``causal_conv1d_fn`` of causal_conv1d has the axes ``(batch, E, L)``.

    Shape:
        ``x`` and result ``(batch, L, E)``; ``weight`` ``(E, 1, taps)``, the last tap for a step itself; ``bias``
        ``(E,)``.
    """
    E, _, taps = weight.shape
    earlier_steps = F.pad(rearrange(x, "b L E -> b E L"), (taps - 1, 0))
    return rearrange(F.conv1d(earlier_steps, weight, bias, groups=E), "b E L -> b L E")


@torch.compiler.assume_constant_result  # torch.compile would look into a function with a cache, and into its trial
def _numba_works() -> bool:
    return not why_not_numba()


@cache
def why_not_numba() -> str:
    """Say why numba's kernel is not used on CPUs; "" if it is. It is tried once per process, on a small input."""
    return in_no_mode("cpu", _problem_of_numba)


def _problem_of_numba() -> str:
    try:
        from .numba_conv import conv_backward, conv_forward

        generator = torch.Generator().manual_seed(0)
        shapes = (2, 5, 3), (2, 5, 3), (3, 4), (3,)
        grad_y, *inputs = (torch.rand(shape, generator=generator) for shape in shapes)
        x, weight, bias = (each.clone().requires_grad_() for each in inputs)
        expected_y = causal_conv_reference(x, weight.unsqueeze(1), bias)
        expected = [expected_y.detach(), *torch.autograd.grad(expected_y, (x, weight, bias), grad_y)]
        actual = [conv_forward(*inputs), *conv_backward(grad_y, *inputs[:2])]
        agrees = all(torch.allclose(a, e, atol=1e-5) for a, e in zip(actual, expected, strict=True))
    except Exception as error:  # a broken installation of numba can raise anything
        return first_line(error)
    return "" if agrees else "its result differs from PyTorch's"


@torch.library.custom_op("tpmamba::causal_conv", mutates_args=())
def _causal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from .numba_conv import conv_forward

    return conv_forward(x, weight, bias)


@torch.library.custom_op("tpmamba::causal_conv_backward", mutates_args=())
def _causal_conv_backward(grad_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from .numba_conv import conv_backward

    grad_x, grad_weight, grad_bias = conv_backward(grad_y, x, weight)
    return grad_x, grad_weight.contiguous(), grad_bias


@_causal_conv.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@_causal_conv_backward.register_fake
def _(grad_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _gradients(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
    return _causal_conv_backward(grad_y, *ctx.saved_tensors)


_causal_conv.register_autograd(_gradients, setup_context=_keep)
