"""The selective scan, which PyTorch does not have; README.md beside this file holds its mathematics."""

from .operator import selective_scan

__all__ = ["selective_scan"]
