"""The selective scan in plain PyTorch, for any device: chunk by chunk, and step by step inside a chunk.

Within a chunk everything but the recurrence itself is one tensor operation, so temporaries are ``(K, batch, E, N)`` for
``K = CHUNK`` steps and never ``(batch, L, E, N)``. The backward pass does without autograd: it goes from the last chunk
to the first and recomputes the states of each from the state before it. Time is the first axis throughout, so that a
chunk is a view; ``a = exp(delta A)`` as in README.md.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .chunks import CHUNK, new_states


def scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the result of :func:`~nnunetv2_tpmamba.networks.ops.selective_scan` and the state before each chunk.

    All tensors have the same floating dtype. :func:`scan_backward` starts from the states.

    Shape:
        ``y`` ``(batch, L, E)``, states ``(batch, ceil(L / CHUNK), E, N)``.
    """
    before_chunk = new_states(u, A)
    u, delta, B, C = _time_first(u, delta, B, C)
    y = D * u
    x = u.new_zeros(u.shape[1], *A.shape)
    for c, steps in enumerate(_chunks(len(u))):
        before_chunk[:, c] = x
        states, _ = _chunk_states(x, delta[steps] * u[steps], delta[steps], A, B[steps])
        y[steps] += (states[1:] @ C[steps, :, :, None])[..., 0]
        x = states[-1]
    return y.transpose(0, 1), before_chunk


def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of ``u, delta, A, B, C, D`` from the gradient of ``y`` and the states of the forward."""
    grad_y, u, delta, B, C, before_chunk = _time_first(grad_y, u, delta, B, C, states)
    drive = delta * u
    grad_drive, grad_delta, grad_B, grad_C = (torch.empty_like(x) for x in (drive, delta, B, C))
    grad_A = torch.zeros_like(A)
    from_later = u.new_zeros(u.shape[1], *A.shape)  # the part of the state's gradient that later steps pass back
    for x, steps in reversed(list(zip(before_chunk, _chunks(len(u)), strict=True))):
        states, a = _chunk_states(x, drive[steps], delta[steps], A, B[steps])
        grad_x = grad_y[steps, :, :, None] * C[steps, :, None, :]
        for k in reversed(range(len(grad_x))):
            grad_x[k] += from_later
            torch.mul(a[k], grad_x[k], out=from_later)
        grad_drive[steps] = (grad_x @ B[steps, :, :, None])[..., 0]
        grad_B[steps] = (drive[steps, :, None, :] @ grad_x)[:, :, 0]
        grad_C[steps] = (grad_y[steps, :, None, :] @ states[1:])[:, :, 0]
        grad_exponent = a.mul_(grad_x).mul_(states[:-1])  # of delta A
        grad_delta[steps] = torch.linalg.vecdot(grad_exponent, A)
        grad_A += grad_exponent.mul_(delta[steps, :, :, None]).sum((0, 1))

    grad_u = grad_drive * delta + grad_y * D
    grad_delta += grad_drive * u
    grad_D = (grad_y * u).sum((0, 1))
    grad_u, grad_delta, grad_B, grad_C = (x.transpose(0, 1) for x in (grad_u, grad_delta, grad_B, grad_C))
    return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D


def _time_first(*sequences: Tensor) -> Iterator[Tensor]:
    return (x.transpose(0, 1).contiguous() for x in sequences)


def _chunks(L: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, L)) for start in range(0, L, CHUNK))


def _chunk_states(x: Tensor, drive: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the states of a chunk from ``x``, the state before it.

    Shape:
        the states before the chunk and after each of its K steps ``(K + 1, batch, E, N)``; ``a`` of each step
        ``(K, batch, E, N)``.
    """
    a = (delta[..., None] * A).exp_()
    states = torch.empty(len(a) + 1, *x.shape, dtype=x.dtype, device=x.device)
    states[0] = x
    torch.mul(drive[..., None], B[:, :, None, :], out=states[1:])
    for k in range(len(a)):
        states[k + 1].addcmul_(a[k], states[k])
    return states, a
