"""The short convolution of a Mamba block: each channel of a step from its last few steps."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .implementations import in_no_mode


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute :func:`causal_conv_reference`, on a CPU in float32 by a kernel of numba's, if it works.

    PyTorch's own convolution needs the channels before the steps, and takes longer.
    """
    if _has_kernel(x.device.type, x.dtype):
        return _causal_conv(x, weight.squeeze(1), bias)
    return causal_conv_reference(x, weight, bias)


def causal_conv_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve every channel on its own with the steps up to its own; steps before the first are zero.

    Source: Gu and Dao, "Mamba", 2023, figure 3; ``causal_conv1d_fn`` of causal_conv1d has the axes ``(batch, E, L)``.

    Shape:
        ``x`` and result ``(batch, L, E)``; ``weight`` ``(E, 1, taps)``, the last tap for a step itself; ``bias``
        ``(E,)``.
    """
    L, (E, _, taps) = x.shape[1], weight.shape
    y = F.conv1d(rearrange(x, "b L E -> b E L"), weight, bias, padding=taps - 1, groups=E)
    return rearrange(y[..., :L], "b E L -> b L E")  # the padding adds steps at the end


@torch.compiler.assume_constant_result
def _has_kernel(device_type: str, dtype: torch.dtype) -> bool:
    return device_type == "cpu" and dtype == torch.float32 and _numba_works()


@cache
def _numba_works() -> bool:
    return in_no_mode("cpu", _numba_agrees)


def _numba_agrees() -> bool:
    """Try numba's kernel on a small input, against the reference."""
    try:
        from .numba_conv import conv_backward, conv_forward

        generator = torch.Generator().manual_seed(0)
        shapes = (2, 5, 3), (2, 5, 3), (3, 4), (3,)
        grad_y, x, weight, bias = (torch.rand(shape, generator=generator) for shape in shapes)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            y, (grad_x, _, _) = conv_forward(x, weight, bias), conv_backward(grad_y, x, weight)
            expected = causal_conv_reference(x, weight.unsqueeze(1), bias)
            # reversed in time, the gradient of x is the same convolution of the gradient of y
            expected_grad = causal_conv_reference(grad_y.flip(1), weight.unsqueeze(1), torch.zeros(3)).flip(1)
        return torch.allclose(y, expected, atol=1e-5) and torch.allclose(grad_x, expected_grad, atol=1e-5)
    except Exception:  # a broken installation of numba can raise anything; the log says so of the scan, see there
        return False


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
