"""UNETR: MONAI's network with the numbers of its paper, without parts that never run."""

import pytest
import torch
from monai.networks.nets import UNETR

from nnunetv2_tpmamba.networks.baselines.unetr import build_unetr

SMALL = (32, 16, 32)


def test_the_papers_network_has_the_known_size():
    with torch.device("meta"):
        network = build_unetr(1, 14, (96, 96, 96))
    assert sum(p.numel() for p in network.parameters()) == 92_802_478
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert all("norm_cross_attn" in name for name in frozen)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 92_802_478 - 12 * 2 * 768


def test_it_is_monais_with_the_perceptrons_embedding():
    network, monais = build_unetr(3, 2, SMALL), UNETR(3, 2, img_size=SMALL, proj_type="perceptron")
    monais.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, *SMALL)
    with torch.no_grad():
        torch.testing.assert_close(network(image), monais(image), rtol=0, atol=0)


def test_a_patch_it_cannot_take_is_refused():
    message = r"patch size \(96, 96, 100\): the sides must be multiples of 16; set patch_size to e.g. \(96, 96, 96\)"
    with pytest.raises(ValueError, match=message):
        build_unetr(1, 2, (96, 96, 100))
