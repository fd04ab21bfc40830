"""V-Net, MONAI's."""

from collections import OrderedDict

from torch import nn

from .monai import require_monai
from .patches import check_multiples

FIRST_CHANNELS = 16  # of the first level, to which V-Net repeats its input


def check_patch_size(patch_size: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for a patch that four halvings do not divide, or of which they leave a single voxel."""
    check_multiples(patch_size, 16, smallest=32)  # the norm of a batch of one needs more than one voxel


def build_vnet(input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
    """V-Net with random weights: batch norm, ELU, dropout of 0.5, one output.

    V-Net adds its input, repeated to 16 channels, to its first convolution, so the number of channels must divide 16.
    Others (3, for example) are first projected to the next number that does, by a convolution of kernel 1.

    Args:
        input_channels: of the volume.
        num_classes: maps to predict, background included.
        patch_size: voxels, ``(D, H, W)``; multiples of 16, at least 32.

    Shape:
        input ``(B, input_channels, D, H, W)``, output ``(B, num_classes, D, H, W)``.

    Raises:
        ImportError: MONAI is missing or too old.
        ValueError: the network cannot take the patch.

    Source: Milletari et al., "V-Net", 3DV 2016; MONAI's VNet, which is unchanged. The projection is ours.
    """
    check_patch_size(patch_size)
    require_monai()
    from monai.networks.nets import VNet

    divisor = next((n for n in (1, 2, 4, 8) if n >= input_channels), FIRST_CHANNELS)
    vnet = VNet(spatial_dims=3, in_channels=divisor, out_channels=num_classes)
    if divisor == input_channels:
        return vnet
    return nn.Sequential(OrderedDict(projection=nn.Conv3d(input_channels, divisor, 1), vnet=vnet))
