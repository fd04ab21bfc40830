"""The selective scan by mamba-ssm's CUDA kernel.

The package is optional (extra ``[cuda]``), and being importable is not enough: builds exist that lack this kernel and
fail only when it runs. :mod:`.implementations` therefore tries these functions before it chooses them.
"""

from types import SimpleNamespace

import torch
from mamba_ssm.ops.selective_scan_interface import SelectiveScanFn
from torch import Tensor

from .chunks import new_states


class Context(SimpleNamespace):
    """Stand in for autograd, which records nothing inside an operator: keep the tensors that the backward needs."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


def scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`.loop.scan_forward`; tensors are float32 on CUDA, and the states stay without values."""
    return _swap(SelectiveScanFn.forward(Context(), *_theirs(u, delta, A, B, C, D))), new_states(u, A)


def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of ``u, delta, A, B, C, D`` by the kernel's backward, after its forward once more."""
    context = Context()
    SelectiveScanFn.forward(context, *_theirs(u, delta, A, B, C, D))
    grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, *_ = SelectiveScanFn.backward(context, _swap(grad_y))
    return _swap(grad_u), _swap(grad_delta), grad_A, _swap(grad_B), _swap(grad_C), grad_D


def _theirs(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, ...]:
    """Bring the arguments into mamba-ssm's order of axes, ``(batch, E, L)``."""
    return _swap(u), _swap(delta), A.contiguous(), _swap(B), _swap(C), D.contiguous()


def _swap(x: Tensor) -> Tensor:
    return torch.transpose(x, 1, 2).contiguous()
