"""The scan as a Mamba block uses it: softplus of the step before it, a gate behind it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .implementations import implementation_for
from .operator import selective_scan


def gated_scan(u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, gate: Tensor) -> Tensor:
    """Scan with ``delta = softplus(step)``, and multiply the result by ``silu(gate)``.

    Where no gradients are asked for and the implementation of the scan can, all of it is one pass over the inputs.

    Source: ``selective_scan_fn`` of mamba_ssm with ``z`` and ``delta_softplus``.

    Args:
        u, A, B, C, D: see :func:`~nnunetv2_tpmamba.networks.ops.selective_scan`.
        step: step size before softplus.
        gate: opens the result where it is positive.

    Shape:
        ``u``, ``step``, ``gate`` and the result ``(batch, L, E)``.
    """
    if not torch.is_grad_enabled() and _in_one_pass(u.device.type, u.dtype, A.shape[1]):
        return _gated_scan(u, step, A, B, C, D, gate)
    return selective_scan(u, F.softplus(step), A, B, C, D) * F.silu(gate)


@torch.compiler.assume_constant_result
def _in_one_pass(device_type: str, dtype: torch.dtype, d_state: int) -> bool:
    return implementation_for(device_type, dtype, d_state).gated is not None


@torch.library.custom_op("tpmamba::gated_scan", mutates_args=())
def _gated_scan(u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, gate: Tensor) -> Tensor:
    scan = implementation_for(u.device.type, u.dtype, A.shape[1])
    if scan.gated is None:  # compiled code is run on another implementation than it was compiled for
        return (selective_scan(u, F.softplus(step), A, B, C, D) * F.silu(gate)).contiguous()
    return scan.gated(u, step, A, B, C, D, gate)


@_gated_scan.register_fake
def _(u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, gate: Tensor) -> Tensor:
    return u.new_empty(u.shape)
