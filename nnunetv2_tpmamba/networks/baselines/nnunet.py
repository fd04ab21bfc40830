"""nnU-Net's own network, built with nnU-Net's functions, as its planner would for a cubic patch."""

from collections.abc import Sequence

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

SMALLEST_FEATURE_MAP = 4  # voxels on a side; ExperimentPlanner.UNet_featuremap_min_edge_length
BASE_FEATURES, MOST_FEATURES = 32, 320  # ExperimentPlanner.UNet_base_num_features, UNet_max_features_3d
SPACING = (1.0, 1.0, 1.0)  # mm


def stock_network(patch_size: Sequence[int], num_classes: int, deep_supervision: bool) -> nn.Module:
    """Stock 3d_fullres for one channel at 1 mm, of random weights.

    Source: ``ExperimentPlanner.get_plans_for_configuration``, whose numbers these are.
    """
    _, strides, kernel_sizes, _, _ = get_pool_and_conv_props(SPACING, patch_size, SMALLEST_FEATURE_MAP, 999999)
    stages = len(strides)
    return get_network_from_plans(
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        {
            "n_stages": stages,
            "features_per_stage": [min(MOST_FEATURES, BASE_FEATURES * 2**i) for i in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernel_sizes,
            "strides": strides,
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
        ("conv_op", "norm_op", "dropout_op", "nonlin"),
        input_channels=1,
        output_channels=num_classes,
        deep_supervision=deep_supervision,
    )
