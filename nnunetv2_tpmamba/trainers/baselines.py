"""The rows of the paper's table 1 that have neither SAM nor several trainers: other networks on the same testbed."""

from typing import Any

from torch import nn

from .row import Row
from .testbed import nnUNetTrainerTestbed


class NeedsMONAI:
    """A row whose network is MONAI's or has parts of MONAI's; comes before the trainer among the base classes."""

    needs = "a GPU, MONAI"

    @classmethod
    def check_installed(cls) -> None:
        from nnunetv2_tpmamba.networks.baselines.monai import require_monai

        require_monai()


class nnUNetTrainerTestbed_nnUNet(nnUNetTrainerTestbed):
    """Isensee et al., "nnU-Net", Nature Methods 2021; its own network, planned for the testbed's patch and spacing."""

    row = Row(
        table="table 1",
        name="nnUNet",
        source="dynamic_network_architectures' PlainConvUNet, Apache-2.0",
        dice={24: 82.5, 6: 68.8, 3: 46.8},
        differs="The authors train with SGD at 1e-2 on batches of at least 2, and plan patches for a GPU's memory.",
    )
    deep_supervision = True

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet

        plan_unet(patch_size, cls.testbed.spacing)

    @classmethod
    def plan_architecture(cls) -> dict[str, Any]:
        from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet

        return plan_unet(cls.testbed.patch_size, cls.testbed.spacing)

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet

        topology = plan_unet(patch_size, cls.testbed.spacing)
        return cls.build_topology(input_channels, num_classes, patch_size, topology)

    @classmethod
    def build_from_plans(cls, input_channels: int, num_classes: int, settings: dict[str, Any]) -> nn.Module:
        """Build the topology in the derived plans, because another version of nnU-Net may plan another."""
        return cls.build_topology(input_channels, num_classes, tuple(settings["patch_size"]), settings["architecture"])

    @classmethod
    def build_topology(
        cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...], topology: dict[str, Any]
    ) -> nn.Module:
        """The network of a topology, as :func:`~nnunetv2_tpmamba.networks.baselines.nnunet.plan_unet` plans it."""
        from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet

        return build_unet(input_channels, num_classes, topology)


class nnUNetTrainerTestbed_VNet(NeedsMONAI, nnUNetTrainerTestbed):
    """Milletari et al., "V-Net", 3DV 2016; MONAI's network."""

    row = Row(
        table="table 1",
        name="VNet",
        source="MONAI's VNet, Apache-2.0",
        dice={24: 80.0, 6: 47.6, 3: 15.5},
        differs="MONAI's network has ELU and batch norms, the authors' paper PReLU and no norm. The authors train with "
        "SGD and a Dice loss on prostate MRI. The batch norms see one patch at a time here. Three channels are "
        "projected to four, because the number must divide 16.",
    )

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.baselines.vnet import check_patch_size

        check_patch_size(patch_size)

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.vnet import build_vnet

        return build_vnet(input_channels, num_classes, patch_size)


class nnUNetTrainerTestbed_UNETR(NeedsMONAI, nnUNetTrainerTestbed):
    """Hatamizadeh et al., "UNETR", WACV 2022; MONAI's network."""

    row = Row(
        table="table 1",
        name="UNETR",
        source="MONAI's UNETR, Apache-2.0",
        dice={24: 77.5, 6: 45.6, 3: 20.8},
        differs="The authors train with AdamW at 1e-4, weight decay 1e-5, 50 epochs of warm-up and a cosine schedule. "
        "MONAI's norms before a cross-attention, which UNETR does not have, never run and are not trained.",
    )

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.baselines.unetr import check_patch_size

        check_patch_size(patch_size)

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.unetr import build_unetr

        return build_unetr(input_channels, num_classes, patch_size)


class nnUNetTrainerTestbed_TransBTS(nnUNetTrainerTestbed):
    """Wang et al., "TransBTS", MICCAI 2021; written from the facts of its authors' code, with the same output."""

    row = Row(
        table="table 1",
        name="TransBTS",
        source="ours, from the facts of github.com/Wenxuan-1119/TransBTS, Apache-2.0",
        dice={24: 81.0, 6: 45.1, 3: 19.2},
        differs="The authors train with Adam (amsgrad) at 2e-4 and weight decay 1e-5 on batches of 8, 128 voxels on a "
        "side; the batch norms see one patch at a time here. A layer norm and a linear layer on which the output does "
        "not depend are left out; with them there are 31,577,438 parameters. The authors' code drops a fifth of the "
        "first maps in evaluation too, ours in training only.",
    )

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.baselines.transbts import check_patch_size

        check_patch_size(patch_size)

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.transbts import build_transbts

        return build_transbts(input_channels, num_classes, patch_size)


class nnUNetTrainerTestbed_SwinUNETR(NeedsMONAI, nnUNetTrainerTestbed):
    """Hatamizadeh et al., "Swin UNETR", BrainLes 2021; MONAI's network."""

    row = Row(
        table="table 1",
        name="SwinUNETR",
        source="MONAI's SwinUNETR, Apache-2.0",
        dice={24: 82.3, 6: 69.5, 3: 52.3},
        differs="The authors train with AdamW at 1e-4, weight decay 1e-5, 50 epochs of warm-up and a cosine schedule, "
        "and publish an encoder pretrained on other CTs, which is not used here. The paper names no size.",
    )

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.baselines.swin_unetr import check_patch_size

        check_patch_size(patch_size)

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.swin_unetr import build_swin_unetr

        return build_swin_unetr(input_channels, num_classes, patch_size)


class nnUNetTrainerTestbed_UXNet(NeedsMONAI, nnUNetTrainerTestbed):
    """Lee et al., "3D UX-Net", ICLR 2023; an encoder written from the paper and facts, and MONAI's blocks around it."""

    row = Row(
        table="table 1",
        name="3D-UX-Net",
        source="ours, from the paper and facts of its code, which has no licence, with MONAI's blocks, Apache-2.0",
        dice={24: 81.8, 6: 70.7, 3: 53.2},
        differs="The authors train with AdamW at 1e-4 for 40,000 iterations. The convolutions of kernel 1 in a block "
        "are depthwise and a layer scale follows them, as in the authors' network and not in their figure.",
    )

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.baselines.uxnet import check_patch_size

        check_patch_size(patch_size)

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        from nnunetv2_tpmamba.networks.baselines.uxnet import build_uxnet

        return build_uxnet(input_channels, num_classes, patch_size)
