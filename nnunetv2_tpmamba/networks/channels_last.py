"""Instance norm and GELU that leave channels last in memory, where a CPU convolves volumes faster."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .device import is_for_cpu


class LayoutKeepingInstanceNorm(nn.InstanceNorm3d):
    """PyTorch's layer, which would put the channels first again.

    On a CPU it takes a single voxel, too. Without ``affine``, or with running statistics, it is PyTorch's own.

    Shape:
        input and output ``(B, C, D, H, W)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not has_channels_last(x) or not self.affine or self.track_running_stats:
            return super().forward(x)
        return _last_to_first(instance_norm(_first_to_last(x), self.weight, self.bias, self.eps))


class LayoutKeepingGELU(nn.GELU):
    """PyTorch's layer, which is several times slower where the axes are not in the order of memory.

    Shape:
        input and output ``(B, C, D, H, W)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not has_channels_last(x):
            return super().forward(x)
        return _last_to_first(super().forward(_first_to_last(x)))


def has_channels_last(x: Tensor) -> bool:
    """Whether ``x``, ``(B, C, D, H, W)``, is on a CPU and has its channels last in memory."""
    return is_for_cpu(x) and x.is_contiguous(memory_format=torch.channels_last_3d)


def _first_to_last(x: Tensor) -> Tensor:
    return rearrange(x, "B C D H W -> B D H W C")


def _last_to_first(x: Tensor) -> Tensor:
    return rearrange(x, "B D H W C -> B C D H W")


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise every ``x[b, :, :, :, c]``; a single voxel, which ``nn.InstanceNorm3d`` refuses, is its own mean.

    It is not ``torch.instance_norm``: on a CPU, for a batch of one, its gradients are wrong where the gradient of its
    result has channels last (seen in PyTorch 2.13 and 2.14).

    Shape:
        ``x`` and result ``(B, D, h, w, C)``; ``weight`` and ``bias`` ``(C,)``.
    """
    norm = AccurateNorm.apply if is_for_cpu(x) and x.dtype == torch.float32 else _norm
    normed = [norm(sample, weight, bias, eps) for sample in x]
    return torch.stack(normed) if len(normed) > 1 else normed[0].unsqueeze(0)  # a stack of one would be a copy


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    use_cudnn = False  # PyTorch's own kernel is made for channels that come last
    return torch.batch_norm(x.flatten(0, 2), weight, bias, None, None, True, 0.0, eps, use_cudnn).view(x.shape)


class AccurateNorm(torch.autograd.Function):
    """Normalise every ``x[:, :, :, c]`` by sums of rows of voxels, and sums of these.

    On a CPU PyTorch's batch norm adds up all voxels one after the other in float32: of a 96 mm cube the result is wrong
    by 4e-4, which is less than a digit of bfloat16 but a thousand times the error of float32. Its backward pass, whose
    sums are smaller, is used here too.

    Shape:
        ``x`` and result ``(D, h, w, C)``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean = x.mean(2).mean((0, 1))
        centered = x - mean
        variance = torch.linalg.vector_norm(centered, dim=2).square().mean((0, 1)) / x.shape[2]
        inverse_deviation = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse_deviation)
        ctx.eps = eps
        return centered.mul_(weight * inverse_deviation).add_(bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse_deviation = ctx.saved_tensors
        rows, gradients = x.flatten(0, 2), gradient.flatten(0, 2)
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            gradients, rows, weight, None, None, mean, inverse_deviation, True, ctx.eps, [True, True, True]
        )
        return grad_x.view(x.shape), grad_weight, grad_bias, None
