"""Keep SAM's residual stream, which may exceed the largest number of fp16, within bounds under autocast."""

import torch
from torch import Tensor

# A convolution of ours sums at most 9216 products; with its largest initial weight the sum then stays below 65504.
LARGEST = 256.0


def bounded(stream: Tensor) -> Tensor:
    """Scale every sample down, under autocast to fp16 alone, until none of its values exceeds ``LARGEST``.

    It is meant for the input of a convolution without bias that is followed by instance norm. Instance norm takes any
    scale away, so the result is the same, and nothing overflows on the way.

    Shape:
        input and output ``(B, ...)``.
    """
    if not _is_autocast_to_fp16(stream.device.type):
        return stream
    largest = stream.detach().abs().amax(dim=tuple(range(1, stream.ndim)), keepdim=True)
    return stream / (largest / LARGEST).clamp(min=1)


def _is_autocast_to_fp16(device_type: str) -> bool:
    """Whether products now run in fp16, whose numbers end at 65504; those of bfloat16 reach as far as float32's."""
    return torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.float16
