"""Swin UNETR: MONAI's network, of the size that its authors publish."""

import pytest
import torch
from monai.networks.nets import SwinUNETR

from nnunetv2_tpmamba.networks.baselines.swin_unetr import build_swin_unetr


def test_the_papers_network_has_the_known_size():
    with torch.device("meta"):
        network = build_swin_unetr(1, 14, (96, 96, 96))
    assert sum(p.numel() for p in network.parameters()) == 62_187_296
    assert all(x.is_meta for x in network.state_dict().values())


def test_it_is_monais():
    network, monais = build_swin_unetr(3, 2, (64, 64, 64)), SwinUNETR(3, 2, feature_size=48)
    monais.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 32, 32, 64)  # smaller than patches may be, to be quick; two voxels at the bottleneck
    with torch.no_grad():
        torch.testing.assert_close(network(image), monais(image), rtol=0, atol=0)


@pytest.mark.parametrize(("patch_size", "good"), [((32, 64, 64), (64, 64, 64)), ((96, 96, 100), (96, 96, 96))])
def test_a_patch_it_cannot_take_is_refused(patch_size, good):
    message = rf"patch size \({str(patch_size)[1:-1]}\): the sides must be multiples of 32 and at least 64; set .*e.g. "
    with pytest.raises(ValueError, match=message + rf"\({str(good)[1:-1]}\)"):
        build_swin_unetr(1, 2, patch_size)
