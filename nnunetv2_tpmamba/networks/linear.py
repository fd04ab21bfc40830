"""Linear layers that use all of a CPU: in float32, PyTorch's matrix products leave half of an AMD processor idle."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .device import is_for_cpu
from .precision import has_onednn

FEW_VALUES = 20480
"""PyTorch convolves a single image of up to so many values without oneDNN. A matrix product of them is quick."""
IMAGES = 16
"""With a single thread, PyTorch convolves fewer images with kernels of one pixel without oneDNN."""


class Linear(nn.Linear):
    """PyTorch's linear layer, computed by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.linear``, the plain reference, as a convolution with kernels of one pixel where that is faster.

    PyTorch multiplies matrices of float32 with MKL, which uses AVX-512 on Intel's processors only, and convolves with
    oneDNN, which uses it on AMD's too: there the same product takes half the time. Results differ by rounding.

    Shape:
        ``x`` ``(..., C)``, ``weight`` ``(C_out, C)``, ``bias`` ``(C_out,)``; result ``(..., C_out)``.
    """
    if not _is_faster_as_convolution(x):
        return F.linear(x, weight, bias)
    pixels = x.reshape(_images(x), -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # channels stay last in memory
    product = F.conv2d(pixels, weight[:, :, None, None], bias)
    return product.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _is_faster_as_convolution(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and is_for_cpu(x)
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.ndim > 1
        and x.numel() > FEW_VALUES
        and mkl_is_slow()
        and has_onednn()
        and (_images(x) >= IMAGES or torch.get_num_threads() > 1)
    )


def _images(x: Tensor) -> int:
    """Into how many images the vectors of ``x`` are divided."""
    return IMAGES if x.shape[:-1].numel() % IMAGES == 0 else x.shape[0]


@cache
def mkl_is_slow() -> bool:
    """Whether this is an AMD processor with AVX-512, and PyTorch multiplies its matrices with MKL."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkl.is_available():
        return False
    try:
        from llvmlite.binding import get_host_cpu_name
    except ImportError:  # numba, whose compiler this is, is missing too
        return False
    return str(get_host_cpu_name()).startswith("znver")
