"""Swin UNETR, MONAI's."""

import torch
from torch import nn

from .monai import require_monai
from .patches import check_multiples


def check_patch_size(patch_size: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for a patch that five halvings do not divide, or of which they leave a single voxel."""
    check_multiples(patch_size, 32, smallest=64)  # instance norm needs more than one voxel


def build_swin_unetr(input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
    """Swin UNETR with random weights, features of 48 channels and one output.

    Args:
        input_channels: of the volume.
        num_classes: maps to predict, background included.
        patch_size: voxels, ``(D, H, W)``; multiples of 32, at least 64.

    Shape:
        input ``(B, input_channels, D, H, W)``, output ``(B, num_classes, D, H, W)``.

    Raises:
        ImportError: MONAI is missing or too old.
        ValueError: the network cannot take the patch.

    Source: Hatamizadeh et al., "Swin UNETR", BrainLes 2021; MONAI's SwinUNETR, which is unchanged, with the 48 features
    of its authors' BTCV model. TP-Mamba's paper names no size.
    """
    check_patch_size(patch_size)
    require_monai()
    from monai.networks.nets import SwinUNETR

    device = torch.get_default_device()
    with torch.device("cpu"):  # MONAI reads numbers from tensors while it builds, which the meta device cannot
        network = SwinUNETR(in_channels=input_channels, out_channels=num_classes, feature_size=48)
    return network.to(device)
