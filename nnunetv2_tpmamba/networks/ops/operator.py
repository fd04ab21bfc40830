"""The public selective scan: a PyTorch operator with its own backward pass, the same for all implementations.

``torch.compile`` does not look into a registered operator, so nnU-Net's compiled training has no graph break here.
"""

from typing import Any

import torch
from torch import Tensor

from .chunks import new_states
from .implementations import Implementation, implementation_for


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Scan a sequence with an input-dependent linear state-space model.

    ``x_t = exp(delta_t A) x_{t-1} + delta_t B_t u_t`` and ``y_t = C_t x_t + D u_t``, with ``x_0 = 0``. It is
    computed in float32 (float64 if ``u`` is float64) under any autocast; the result has the dtype of ``u``. All six
    arguments get gradients. Second derivatives are not supported.

    Source: Gu and Dao, "Mamba", 2023; ``selective_scan_fn`` of mamba_ssm, whose axes are ``(batch, E, L)`` instead.

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

    Raises:
        ValueError: a shape or device that does not fit the others; the message names the argument.
    """
    _check(u, delta, A, B, C, D)
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    y, _ = _scan(*(x.to(dtype) for x in (u, delta, A, B, C, D)))
    return y.to(u.dtype)


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> None:
    if u.ndim != 3:
        raise ValueError(f"u has shape {tuple(u.shape)}; (batch, L, E) is needed")
    if A.ndim != 2:
        raise ValueError(f"A has shape {tuple(A.shape)}; (E, N) is needed")
    batch, L, E = u.shape
    N = A.shape[1]
    sequence, readout = (batch, L, E), (batch, L, N)
    needed = {"delta": (delta, sequence), "A": (A, (E, N)), "B": (B, readout), "C": (C, readout), "D": (D, (E,))}
    for name, (x, shape) in needed.items():
        if x.shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; {shape} is needed beside u {tuple(u.shape)} and A {tuple(A.shape)}"
            )
        if x.device != u.device:
            raise ValueError(f"{name} is on {x.device}; it is needed on {u.device}, where u is")


@torch.library.custom_op("tpmamba::selective_scan", mutates_args=())
def _scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    # Matrix products inside an implementation would else follow autocast to fp16.
    with torch.autocast(u.device.type, enabled=False):
        y, states = _implementation(u, A).forward(u, delta, A, B, C, D)
        return y.contiguous(), states.contiguous()  # the strides that register_fake promises to torch.compile


@torch.library.custom_op("tpmamba::selective_scan_backward", mutates_args=())
def _scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        backward = _implementation(u, A).backward
        gu, gdelta, gA, gB, gC, gD = backward(grad_y, u, delta, A, B, C, D, states)
        return gu.contiguous(), gdelta.contiguous(), gA.contiguous(), gB.contiguous(), gC.contiguous(), gD.contiguous()


def _implementation(u: Tensor, A: Tensor) -> Implementation:
    return implementation_for(u.device.type, u.dtype, A.shape[1])


@_scan.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), new_states(u, A)


@_scan_backward.register_fake
def _(grad_y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in inputs[:6])


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    _, states = output
    ctx.mark_non_differentiable(states)
    ctx.save_for_backward(*inputs, states)


def _gradients(ctx: Any, grad_y: Tensor, _: Any) -> tuple[Tensor, ...]:
    return _scan_backward(grad_y, *ctx.saved_tensors)


_scan.register_autograd(_gradients, setup_context=_keep)
