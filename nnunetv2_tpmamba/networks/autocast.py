"""What fp16 autocast must not touch as it is: SAM's residual stream, which may exceed what fp16 can hold."""

import torch
from torch import Tensor

LARGEST = 256.0  # times 9216, the most inputs one of our convolutions sums, times its largest initial weight: < 65504


def bounded(stream: Tensor) -> Tensor:
    """Under autocast, scale every sample down until nothing exceeds ``LARGEST``; otherwise give it back as it is.

    For convolutions without bias whose result is instance-normalised, which takes any scale back: the result is the
    same, except that nothing overflows on the way.

    Shape:
        input and output ``(B, ...)``.
    """
    if not torch.is_autocast_enabled(stream.device.type):
        return stream
    largest = stream.detach().abs().amax(dim=tuple(range(1, stream.ndim)), keepdim=True)
    return stream / (largest / LARGEST).clamp(min=1)
