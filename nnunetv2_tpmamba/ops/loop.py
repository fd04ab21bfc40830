"""The selective scan as a loop over steps in plain PyTorch, for any device.

Only the running state ``(batch, E, N)`` exists in the forward pass. The backward pass is ours, not autograd's: it keeps one
state per chunk of about sqrt(L) steps and recomputes the others chunk by chunk, from the last to the first.
"""

import math

import torch
from torch import Tensor


def scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """See :func:`~nnunetv2_tpmamba.ops.selective_scan`; all tensors of one floating dtype."""
    x = u.new_zeros(u.shape[0], *A.shape)
    y = D * u
    drive = delta * u
    for t in range(u.shape[1]):
        _step(x, delta[:, t], A, B[:, t], drive[:, t])
        y[:, t] += torch.bmm(x, C[:, t, :, None])[:, :, 0]
    return y


def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``u, delta, A, B, C, D``, given that of ``y`` ``(batch, L, E)``."""
    batch, L, _ = u.shape
    chunk = max(1, math.isqrt(L))
    starts = range(0, L, chunk)
    drive = delta * u

    x = u.new_zeros(batch, *A.shape)
    chunk_states = []
    for t in range(L):
        if t % chunk == 0:
            chunk_states.append(x.clone())
        _step(x, delta[:, t], A, B[:, t], drive[:, t])

    grad_drive, grad_delta = torch.empty_like(u), torch.empty_like(u)
    grad_A, grad_B, grad_C = torch.zeros_like(A), torch.empty_like(B), torch.empty_like(C)
    grad_x = torch.zeros_like(x)
    states = x.new_empty(chunk + 1, *x.shape)
    for start in reversed(starts):
        stop = min(start + chunk, L)
        states[0] = chunk_states.pop()
        for t in range(start, stop):
            states[t - start + 1] = states[t - start]
            _step(states[t - start + 1], delta[:, t], A, B[:, t], drive[:, t])
        for t in reversed(range(start, stop)):
            grad_x += grad_y[:, t, :, None] * C[:, t, None, :]
            grad_C[:, t] = torch.bmm(grad_y[:, t, None, :], states[t - start + 1])[:, 0]
            grad_B[:, t] = torch.bmm(drive[:, t, None, :], grad_x)[:, 0]
            grad_drive[:, t] = torch.bmm(grad_x, B[:, t, :, None])[:, :, 0]
            grad_x *= torch.exp(delta[:, t, :, None] * A)
            grad_exponent = grad_x * states[t - start]
            grad_A += torch.einsum("ben,be->en", grad_exponent, delta[:, t])
            grad_delta[:, t] = torch.einsum("ben,en->be", grad_exponent, A)

    grad_u = grad_drive * delta + grad_y * D
    grad_delta += grad_drive * u
    grad_D = (grad_y * u).sum((0, 1))
    return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D


def _step(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, drive: Tensor) -> None:
    x.mul_(torch.exp(delta[:, :, None] * A)).addcmul_(drive[:, :, None], B[:, None, :])
