"""Tri-Plane Mamba adapters for SAM as an nnU-Net v2 trainer."""

__version__ = "0.1.0"
