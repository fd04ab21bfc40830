"""The decoder enlarges in-plane alone and reads all four feature maps."""

import pytest
import torch

from nnunetv2_tpmamba.networks.decoder import Decoder


@pytest.mark.parametrize("token_size", [2, 4, 8, 16])
def test_enlarges_to_the_voxels_and_keeps_depth(token_size):
    decoder = Decoder(12, 5, dim=8, token_size=token_size)
    features = [torch.randn(2, 12, 3, 2, 4) for _ in range(4)]
    assert decoder(features).shape == (2, 5, 3, 2 * token_size, 4 * token_size)


def test_every_feature_map_matters():
    decoder = Decoder(12, 5, dim=8)
    features = [torch.randn(1, 12, 3, 2, 2, requires_grad=True) for _ in range(4)]
    gradients = torch.autograd.grad(decoder(features).square().mean(), features)
    assert all(g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e7])
def test_features_of_any_size_give_the_same_under_fp16(scale):
    """SAM's features exceed 65504, the largest number of fp16; instance norm takes their scale away."""
    torch.manual_seed(0)
    decoder = Decoder(12, 5, dim=8)
    features = [torch.randn(1, 12, 3, 2, 2) for _ in range(4)]
    with torch.no_grad():
        expected = decoder(features)
        with torch.autocast("cpu", dtype=torch.float16):
            actual = decoder([scale * f for f in features])
    assert (actual - expected).norm() < 0.02 * expected.norm()


def test_needs_four_feature_maps():
    with pytest.raises(ValueError, match="zip"):
        Decoder(12, 5, dim=8)([torch.randn(1, 12, 3, 2, 2)] * 3)


@pytest.mark.parametrize("token_size", [0, 1, 12])
def test_token_size_must_be_a_power_of_two(token_size):
    with pytest.raises(ValueError, match=f"token_size {token_size} must be a power of two, at least 2"):
        Decoder(12, 5, token_size=token_size)
