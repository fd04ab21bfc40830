"""The selective scan in plain PyTorch, for any device: chunks of steps, and one operation per step inside a chunk.

Within a chunk everything but the recurrence itself is one tensor operation, so temporaries are ``(K, batch, E, N)`` for
``K = sqrt(L)`` steps and never ``(batch, L, E, N)``. The backward pass is ours, not autograd's: it keeps the state
before each chunk and recomputes the others, from the last chunk to the first. In the comments ``a = exp(delta A)``.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """See :func:`~nnunetv2_tpmamba.ops.selective_scan`; all tensors of one floating dtype."""
    y = D * u
    x = u.new_zeros(u.shape[0], *A.shape)
    for steps in _chunks(u.shape[1]):
        states, _ = _chunk_states(x, u[:, steps], delta[:, steps], A, B[:, steps])
        y[:, steps] += torch.einsum("kben,bkn->bke", states[1:], C[:, steps])
        x = states[-1]
    return y


def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``u, delta, A, B, C, D``, given that of ``y`` ``(batch, L, E)``."""
    chunks = list(_chunks(u.shape[1]))
    x = u.new_zeros(u.shape[0], *A.shape)
    before_chunk = []
    for steps in chunks:
        before_chunk.append(x)
        x = _chunk_states(x, u[:, steps], delta[:, steps], A, B[:, steps])[0][-1].clone()

    grad_u, grad_D = grad_y * D, (grad_y * u).sum((0, 1))
    grad_delta, grad_A, grad_B, grad_C = (torch.zeros_like(x) for x in (delta, A, B, C))
    from_later = torch.zeros_like(x)  # what later steps want of the present state
    for steps in reversed(chunks):
        states, a = _chunk_states(before_chunk.pop(), u[:, steps], delta[:, steps], A, B[:, steps])
        grad_x = torch.einsum("bke,bkn->kben", grad_y[:, steps], C[:, steps]).contiguous()
        for k in reversed(range(len(grad_x))):
            grad_x[k] += from_later
            torch.mul(a[k], grad_x[k], out=from_later)
        drive = delta[:, steps] * u[:, steps]
        grad_drive = torch.einsum("kben,bkn->bke", grad_x, B[:, steps])
        grad_B[:, steps] = torch.einsum("kben,bke->bkn", grad_x, drive)
        grad_C[:, steps] = torch.einsum("kben,bke->bkn", states[1:], grad_y[:, steps])
        grad_exponent = a.mul_(grad_x).mul_(states[:-1])  # of delta A
        grad_A += (grad_exponent * delta[:, steps].transpose(0, 1)[..., None]).sum((0, 1))
        grad_delta[:, steps] = (grad_exponent * A).sum(-1).transpose(0, 1) + grad_drive * u[:, steps]
        grad_u[:, steps] += grad_drive * delta[:, steps]
    return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D


def _chunks(L: int) -> Iterator[slice]:
    size = max(1, math.isqrt(L))
    return (slice(start, min(start + size, L)) for start in range(0, L, size))


def _chunk_states(x: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The state before the chunk (given as ``x``) and after each step ``(K + 1, batch, E, N)``; ``a`` of each step."""
    a = torch.exp(delta.transpose(0, 1)[..., None] * A)
    states = torch.empty(len(a) + 1, *x.shape, dtype=x.dtype, device=x.device)
    states[0] = x
    states[1:] = torch.einsum("bke,bkn->kben", delta * u, B)
    for k in range(len(a)):
        states[k + 1].addcmul_(a[k], states[k])
    return states, a
