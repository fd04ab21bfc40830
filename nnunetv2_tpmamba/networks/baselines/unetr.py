"""UNETR, MONAI's."""

from torch import nn

from .monai import require_monai
from .patches import check_multiples


def check_patch_size(patch_size: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for a patch that tokens of 16 x 16 x 16 voxels do not tile."""
    check_multiples(patch_size, 16)


def build_unetr(input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
    """UNETR with random weights; it takes patches of exactly this size, because each token has a learned position.

    MONAI's blocks hold parts for cross-attention, which UNETR does not have. These never run: the attention, which
    MONAI builds before 1.6, is left out, and the norm before it stays in the state dict and is not trained, because
    training on several GPUs would wait for its gradient.

    Args:
        input_channels: of the volume.
        num_classes: maps to predict, background included.
        patch_size: voxels, ``(D, H, W)``; multiples of 16.

    Shape:
        input ``(B, input_channels, D, H, W)``, output ``(B, num_classes, D, H, W)``.

    Raises:
        ImportError: MONAI is missing or too old.
        ValueError: the network cannot take the patch.

    Source: Hatamizadeh et al., "UNETR", WACV 2022; MONAI's UNETR with the numbers of the paper and the authors'
    perceptron patch embedding.
    """
    check_patch_size(patch_size)
    require_monai()
    from monai.networks.nets import UNETR

    network = UNETR(
        in_channels=input_channels,
        out_channels=num_classes,
        img_size=tuple(patch_size),
        feature_size=16,
        hidden_size=768,
        mlp_dim=3072,
        num_heads=12,
        proj_type="perceptron",
        norm_name="instance",
        res_block=True,
    )
    for block in network.vit.blocks:
        block.cross_attn = nn.Identity()
        block.norm_cross_attn.requires_grad_(False)
    return network
