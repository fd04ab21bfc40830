"""nnU-Net's own network: its topology is the one that nnU-Net plans, and nnU-Net builds it."""

import pytest
import torch

from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet, plan_unet


def test_the_network_of_a_stock_patch_has_the_stock_size():
    with torch.device("meta"):
        network = build_unet(1, 14, plan_unet((128, 128, 128)))
    assert sum(x.numel() for x in network.parameters()) == pytest.approx(30.8e6, rel=0.02)
    assert len(network.encoder.stages) == 6


def test_a_patch_that_the_strides_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"patch size \(96, 96, 100\): .*multiples of .*set patch_size to e.g."):
        plan_unet((96, 96, 100))


def test_a_patch_with_nothing_to_halve_is_refused():
    with pytest.raises(ValueError, match=r"patch size \(4, 7, 7\): .*at least 8 voxels.*e\.g\. \(8, 8, 8\)"):
        plan_unet((4, 7, 7))


def test_nnunets_own_function_builds_the_network():
    network = build_unet(2, 3, plan_unet((32, 32, 32)), deep_supervision=False)
    assert network(torch.rand(1, 2, 32, 32, 32)).shape == (1, 3, 32, 32, 32)
    assert type(network).__module__ == "dynamic_network_architectures.architectures.unet"
