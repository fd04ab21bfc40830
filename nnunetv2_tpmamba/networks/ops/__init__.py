"""Functions the network needs that PyTorch does not have; the maths is in README.md beside this file."""

from .operator import selective_scan

__all__ = ["selective_scan"]
