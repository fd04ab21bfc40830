"""The causal convolution on the CPU, compiled by numba: one pass over the input, sequences in parallel, float32."""

from typing import Any

import numba
import numpy as np
from torch import Tensor

from .numba_cpu import compiled, run


def conv_forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See :func:`.causal_conv.causal_conv_reference`; ``weight`` is ``(E, taps)``, tensors are float32 on the CPU."""
    y = x.new_empty(x.shape)
    run(_forward, x, weight.mT, bias, y)
    return y


def conv_backward(grad_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of ``x``, ``weight`` and bias from the gradient of ``y``."""
    batch, _, E = x.shape
    taps = weight.shape[1]
    grad_x = x.new_empty(x.shape)
    grad_weight, grad_bias = x.new_empty(batch, taps, E), x.new_empty(batch, E)  # one for each sequence
    run(_backward, grad_y, x, weight.mT, grad_x, grad_weight, grad_bias)
    return grad_x, grad_weight.sum(0).mT, grad_bias.sum(0)


@compiled
def _forward(x: Any, weight: Any, bias: Any, y: Any) -> None:
    batch, L, E = x.shape
    taps = weight.shape[0]
    for b in numba.prange(batch):
        for t in range(L):
            for e in range(E):
                y[b, t, e] = bias[e]
            for k in range(max(0, taps - 1 - t), taps):
                for e in range(E):
                    y[b, t, e] += weight[k, e] * x[b, t - (taps - 1) + k, e]


@compiled
def _backward(grad_y: Any, x: Any, weight: Any, grad_x: Any, grad_weight: Any, grad_bias: Any) -> None:
    batch, L, E = x.shape
    taps = weight.shape[0]
    for b in numba.prange(batch):
        to_weight = np.zeros((taps, E), np.float32)
        to_bias = np.zeros(E, np.float32)
        for t in range(L):
            for e in range(E):
                to_bias[e] += grad_y[b, t, e]
                grad_x[b, t, e] = 0
            for k in range(max(0, t + taps - L), taps):
                later = t + (taps - 1) - k  # the step of y that reads step t of x with tap k
                for e in range(E):
                    gy = grad_y[b, later, e]
                    grad_x[b, t, e] += weight[k, e] * gy
                    to_weight[k, e] += x[b, t, e] * gy
        grad_weight[b] = to_weight
        grad_bias[b] = to_bias
