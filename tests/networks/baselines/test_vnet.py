"""V-Net: MONAI's network, and a projection for numbers of channels that MONAI's does not take."""

import pytest
import torch
from monai.networks.nets import VNet

from nnunetv2_tpmamba.networks.baselines.vnet import build_vnet

SMALLEST = (32, 32, 32)


def test_the_papers_network_has_the_known_size():
    with torch.device("meta"):
        network = build_vnet(1, 14, (96, 96, 96))
    assert sum(p.numel() for p in network.parameters()) == 45_646_126


@pytest.mark.parametrize("channels", [1, 4])
def test_it_is_monais(channels):
    network, monais = build_vnet(channels, 3, SMALLEST), VNet(in_channels=channels, out_channels=3)
    monais.load_state_dict(network.state_dict())
    image = torch.rand(1, channels, *SMALLEST)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image), monais.eval()(image), rtol=0, atol=0)


def test_three_channels_become_four_by_a_convolution_that_trains():
    network = build_vnet(3, 2, SMALLEST)
    assert network.projection.weight.shape == (4, 3, 1, 1, 1)
    output = network(torch.rand(1, 3, *SMALLEST))
    assert output.shape == (1, 2, *SMALLEST)
    output.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(("patch_size", "good"), [((16, 32, 32), (32, 32, 32)), ((96, 96, 100), (96, 96, 96))])
def test_a_patch_it_cannot_take_is_refused(patch_size, good):
    message = rf"patch size \({str(patch_size)[1:-1]}\): the sides must be multiples of 16 and at least 32; set .*e.g. "
    with pytest.raises(ValueError, match=message + rf"\({str(good)[1:-1]}\)"):
        build_vnet(1, 2, patch_size)
