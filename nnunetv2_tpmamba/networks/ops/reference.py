"""The selective scan as it is defined: slow, and the truth that every other implementation is compared with."""

import torch
from torch import Tensor


def selective_scan_reference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Run the discretised state-space recurrence one step at a time, differentiable by autograd.

    ``x_t = exp(delta_t A) x_{t-1} + delta_t B_t u_t`` and ``y_t = C_t x_t + D u_t``, with ``x_0 = 0``.

    Source: Gu and Dao, "Mamba", 2023, equation 2 and algorithm 2; ``selective_scan_ref`` of mamba_ssm, whose axes are
    ``(batch, E, L)`` instead.

    Args:
        u: input.
        delta: step size, positive (after softplus).
        A: decay rates, negative.
        B: how the input enters the state.
        C: how the state is read.
        D: skip connection.

    Shape:
        ``u``, ``delta`` and the result ``(batch, L, E)``; ``A`` ``(E, N)``; ``B``, ``C`` ``(batch, L, N)``; ``D``
        ``(E,)``.
    """
    batch, L, E = u.shape
    x = u.new_zeros(batch, E, A.shape[1])
    y = []
    for t in range(L):
        decay = torch.exp(delta[:, t, :, None] * A)
        x = decay * x + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        y.append((x * C[:, t, None, :]).sum(-1) + D * u[:, t])
    return torch.stack(y, dim=1) if y else torch.zeros_like(u)
