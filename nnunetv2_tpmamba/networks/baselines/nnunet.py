"""nnU-Net's own network, planned and built with nnU-Net's own functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunetv2_tpmamba.config import Testbed

SMALLEST_FEATURE_MAP = 4  # voxels on a side; ExperimentPlanner.UNet_featuremap_min_edge_length
BASE_FEATURES, MOST_FEATURES = 32, 320  # ExperimentPlanner.UNet_base_num_features, UNet_max_features_3d
MOST_POOLINGS = 999999  # as ExperimentPlanner: the smallest feature map limits them


def plan_unet(patch_size: Sequence[int], spacing: Sequence[float] = Testbed.spacing) -> dict[str, Any]:
    """The topology that nnU-Net plans for a patch, as plans hold it under ``architecture``.

    Source: ``ExperimentPlanner.get_plans_for_configuration``, whose numbers these are.

    Args:
        patch_size: voxels, ``(D, H, W)``.
        spacing: mm, in the same order.

    Raises:
        ValueError: the topology's strides do not divide the patch, or no side of it can be halved.
    """
    _, strides, kernel_sizes, fitting, divisors = get_pool_and_conv_props(
        spacing, patch_size, SMALLEST_FEATURE_MAP, MOST_POOLINGS
    )
    if tuple(fitting) != tuple(patch_size):
        raise ValueError(
            f"patch size {tuple(patch_size)}: nnU-Net's network needs multiples of {tuple(map(int, divisors))}; set "
            f"patch_size to e.g. {tuple(map(int, fitting))}"
        )
    stages = len(strides)
    if stages == 1:
        least = 2 * SMALLEST_FEATURE_MAP
        raise ValueError(
            f"patch size {tuple(patch_size)}: nnU-Net's network halves what has at least {least} voxels on a side; set "
            f"patch_size to e.g. {(least,) * 3}"
        )
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(MOST_FEATURES, BASE_FEATURES * 2**i) for i in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [list(map(int, kernel)) for kernel in kernel_sizes],
            "strides": [list(map(int, stride)) for stride in strides],
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def build_unet(
    input_channels: int, num_classes: int, architecture: Mapping[str, Any], deep_supervision: bool = True
) -> nn.Module:
    """The network of a topology, with random weights and the heads of all resolutions.

    Args:
        architecture: see :func:`plan_unet`.
        deep_supervision: return the outputs of all resolutions, or else the finest alone.

    Shape:
        input ``(B, input_channels, D, H, W)``; outputs ``(B, num_classes, ...)``, the finest first.
    """
    return get_network_from_plans(
        architecture["network_class_name"],
        dict(architecture["arch_kwargs"]),
        architecture["_kw_requires_import"],
        input_channels,
        num_classes,
        deep_supervision=deep_supervision,
    )
