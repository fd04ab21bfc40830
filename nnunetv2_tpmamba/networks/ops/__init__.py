"""The selective scan, which PyTorch does not have; README.md beside this file holds its mathematics."""

from .gated import gated_scan
from .operator import selective_scan

__all__ = ["gated_scan", "selective_scan"]
