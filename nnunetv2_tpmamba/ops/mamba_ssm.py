"""The selective scan by mamba-ssm's CUDA kernel, through its public function only.

The package is optional (extra ``[cuda]``), and being importable is not enough: builds exist that lack this kernel and
fail only when it runs. :mod:`.implementations` therefore tries these functions before it chooses them.
"""

import torch
from torch import Tensor


def scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """See :func:`~nnunetv2_tpmamba.ops.selective_scan`; float32 CUDA tensors."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    def channels_first(x: Tensor) -> Tensor:  # their axes are (batch, E, L)
        return x.transpose(1, 2).contiguous()

    y = selective_scan_fn(channels_first(u), channels_first(delta), A, channels_first(B), channels_first(C), D)
    return channels_first(y)


def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``u, delta, A, B, C, D``: the kernel's own backward, after running its forward once more."""
    inputs = [x.detach().requires_grad_() for x in (u, delta, A, B, C, D)]
    with torch.enable_grad():
        y = scan_forward(*inputs)
    grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D = torch.autograd.grad(y, inputs, grad_y)
    return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D
