"""The selective scan, which PyTorch does not have, and the convolution before it; README.md holds the mathematics."""

from .causal_conv import causal_conv
from .gated import gated_scan
from .operator import selective_scan

__all__ = ["causal_conv", "gated_scan", "selective_scan"]
