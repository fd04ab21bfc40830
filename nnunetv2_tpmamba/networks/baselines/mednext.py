"""MedNeXt, MONAI's with the original's down blocks, and outputs as nnU-Net expects them."""

from typing import Any

from torch import Tensor, nn

from .monai import require_monai
from .patches import check_multiples

DOWN_EXPANSIONS = {"S": (2, 2, 2, 2), "B": (3, 4, 4, 4), "M": (3, 4, 4, 4), "L": (4, 8, 8, 8)}  # of the next stage
KERNEL_SIZE = 3
FIRST_CHANNELS = 32
NUM_OUTPUTS = 5


def check_patch_size(patch_size: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for a patch that four halvings do not divide, or of which they leave a single voxel."""
    check_multiples(patch_size, 16, smallest=32)  # the norm of each channel needs more than one voxel


def plan_mednext() -> dict[str, Any]:
    """What the derived plans hold under ``architecture``: the strides, in which nnU-Net reads the outputs' scales.

    nnU-Net takes all but the last, because its own network has no output at the coarsest level, where MedNeXt has one.
    """
    strides = [[1, 1, 1]] + [[2, 2, 2]] * NUM_OUTPUTS
    return {
        "network_class_name": "monai.networks.nets.MedNeXt",
        "arch_kwargs": {"strides": strides},
        "_kw_requires_import": [],
    }


def build_mednext(input_channels: int, num_classes: int, patch_size: tuple[int, ...], size: str = "L") -> nn.Module:
    """MedNeXt with random weights, kernels of 3 and the heads of all five resolutions.

    Args:
        input_channels: of the volume.
        num_classes: maps to predict, background included.
        patch_size: voxels, ``(D, H, W)``; multiples of 16, at least 32.
        size: ``"S"``, ``"B"``, ``"M"`` or ``"L"``, as the paper names them.

    Raises:
        ImportError: MONAI is missing or too old.
        ValueError: the network cannot take the patch.

    Source: Roy et al., "MedNeXt", MICCAI 2023. In MONAI's B, M and L a down block has the expansion of the stage before
    it, in the authors' that of the stage after it; the down blocks here are the authors'. The authors compute the
    blocks of M and L anew in the backward pass, which saves memory and changes no result; this network does not.
    """
    check_patch_size(patch_size)
    require_monai()
    from monai.networks.blocks.mednext_block import MedNeXtDownBlock
    from monai.networks.nets.mednext import create_mednext

    network = create_mednext(
        size, in_channels=input_channels, out_channels=num_classes, kernel_size=KERNEL_SIZE, deep_supervision=True
    )
    network.down_blocks = nn.ModuleList(
        MedNeXtDownBlock(
            in_channels=FIRST_CHANNELS * 2**i,
            out_channels=FIRST_CHANNELS * 2 ** (i + 1),
            expansion_ratio=expansion,
            kernel_size=KERNEL_SIZE,
            use_residual_connection=True,
        )
        for i, expansion in enumerate(DOWN_EXPANSIONS[size])
    )
    return DeeplySupervised(network)


class DeeplySupervised(nn.Module):
    """MONAI's MedNeXt, which also returns the outputs of all resolutions while it is evaluated.

    nnU-Net's loss expects them in validation too, and MONAI's network returns them in training mode only. It has
    neither dropout nor running statistics, so nothing else depends on the mode, and it is kept in training mode.

    Args:
        mednext: with all heads.

    Shape:
        input ``(B, C, D, H, W)``; a list of ``(B, K, D / 2**i, H / 2**i, W / 2**i)`` for i from 0 to 4, or the first
        alone while ``deep_supervision`` is False.
    """

    def __init__(self, mednext: nn.Module) -> None:
        super().__init__()
        self.mednext = mednext

    @property
    def deep_supervision(self) -> bool:
        """Whether all outputs are computed and returned."""
        return bool(self.mednext.do_ds)

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        self.mednext.do_ds = enabled  # type: ignore[assignment]

    def train(self, mode: bool = True) -> "DeeplySupervised":
        super().train(mode)
        self.mednext.training = True
        return self

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        outputs = self.mednext(x)
        return list(outputs) if self.deep_supervision else outputs
