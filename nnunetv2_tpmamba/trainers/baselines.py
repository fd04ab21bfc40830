"""The rows of the paper's table 1 that have no SAM: other networks on the same testbed."""

from typing import Any

from torch import nn

from .testbed import nnUNetTrainerTestbed


class nnUNetTrainerTestbed_nnUNet(nnUNetTrainerTestbed):
    """Isensee et al., "nnU-Net", Nature Methods 2021; its own network, planned for the testbed's patch and spacing."""

    deep_supervision = True

    @classmethod
    def plan_architecture(cls) -> dict[str, Any]:
        from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet

        return plan_unet(cls.testbed.patch_size, cls.testbed.spacing)

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet, plan_unet

        return build_unet(input_channels, num_classes, plan_unet(patch_size, cls.testbed.spacing))

    @classmethod
    def build_from_plans(cls, input_channels: int, num_classes: int, settings: dict[str, Any]) -> nn.Module:
        """Build the topology in the derived plans, because another version of nnU-Net may plan another."""
        from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet

        return build_unet(input_channels, num_classes, settings["architecture"])
