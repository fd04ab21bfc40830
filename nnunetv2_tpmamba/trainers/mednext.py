"""MedNeXt, a row of table 1, in the four sizes of its authors."""

from typing import Any

from torch import nn

from .baselines import NeedsMONAI
from .row import Row
from .testbed import nnUNetTrainerTestbed


def of_size(size: str) -> Row:
    """The row of a size that the paper is not taken to have trained, which has no Dice."""
    return Row(
        table="table 1",
        name=f"MedNeXt {size}",
        source="as MedNeXt",
        dice={},
        differs="A smaller size; the paper names none, and its Dice stands with L.",
    )


class nnUNetTrainerTestbed_MedNeXt(NeedsMONAI, nnUNetTrainerTestbed):
    """Roy et al., "MedNeXt", MICCAI 2023, size L with kernels of 3; MONAI's network with the authors' down blocks."""

    row = Row(
        table="table 1",
        name="MedNeXt",
        source="MONAI's MedNeXt with the authors' down blocks, Apache-2.0",
        dice={24: 83.1, 6: 71.9, 3: 53.5},
        differs="The authors train with AdamW at 1e-3 and eps 1e-4 on patches of 128 x 128 x 128. The loss weighs all "
        "five outputs, as theirs does; nnU-Net's would leave out the coarsest. The paper names no size.",
    )
    deep_supervision = True
    size = "L"

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.baselines.mednext import check_patch_size

        check_patch_size(patch_size)

    @classmethod
    def plan_architecture(cls) -> dict[str, Any]:
        from nnunetv2_tpmamba.networks.baselines.mednext import plan_mednext

        return plan_mednext()

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.mednext import build_mednext

        return build_mednext(input_channels, num_classes, patch_size, cls.size)

    @classmethod
    def toggle_deep_supervision(cls, network: nn.Module, enabled: bool) -> None:
        network.deep_supervision = enabled  # type: ignore[assignment]

    def _build_loss(self) -> nn.Module:
        """nnU-Net's loss on all outputs, as MedNeXt's authors have it; nnU-Net alone gives the coarsest no weight."""
        loss = super()._build_loss()
        if self.enable_deep_supervision:
            weights = [0.5**i for i in range(len(loss.weight_factors))]
            loss.weight_factors = tuple(weight / sum(weights) for weight in weights)
        return loss


class nnUNetTrainerTestbed_MedNeXtS(nnUNetTrainerTestbed_MedNeXt):
    """MedNeXt of size S, the smallest."""

    row = of_size("S")
    size = "S"


class nnUNetTrainerTestbed_MedNeXtB(nnUNetTrainerTestbed_MedNeXt):
    """MedNeXt of size B."""

    row = of_size("B")
    size = "B"


class nnUNetTrainerTestbed_MedNeXtM(nnUNetTrainerTestbed_MedNeXt):
    """MedNeXt of size M."""

    row = of_size("M")
    size = "M"
