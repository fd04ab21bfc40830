"""Instance norm and GELU that leave channels last in memory, where a CPU convolves volumes in half the time."""

import torch
from einops import rearrange
from torch import Tensor, nn


class LayoutKeepingInstanceNorm(nn.InstanceNorm3d):
    """PyTorch's layer, which would put the channels first again.

    Shape:
        input and output ``(B, C, D, H, W)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not has_channels_last(x):
            return super().forward(x)
        return _last_to_first(instance_norm(_first_to_last(x), self.weight, self.bias, self.eps))


class LayoutKeepingGELU(nn.GELU):
    """PyTorch's layer, which is five times slower where the axes are not in the order of memory.

    Shape:
        input and output ``(B, C, D, H, W)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not has_channels_last(x):
            return super().forward(x)
        return _last_to_first(super().forward(_first_to_last(x)))


def has_channels_last(x: Tensor) -> bool:
    """Whether ``x``, ``(B, C, D, H, W)``, is on a CPU and has its channels last in memory."""
    return x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last_3d)


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
    use_cudnn = False  # PyTorch's own kernel is made for channels that come last
    normed = [
        torch.batch_norm(sample.flatten(0, 2), weight, bias, None, None, True, 0.0, eps, use_cudnn).view(sample.shape)
        for sample in x
    ]
    return torch.stack(normed) if len(normed) > 1 else normed[0].unsqueeze(0)  # a stack of one would be a copy
