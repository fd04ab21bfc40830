"""What values the encoder gets: [0, 1] as it is, or as SAM's own preprocessing makes them of it."""

from dataclasses import replace

import pytest
import torch
from support.sam_layouts import small_sam

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.networks.sam.encoder import build_input_scale


@pytest.fixture
def images():
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_imagenet_is_what_segment_anything_makes_of_its_images(tiny_config, images):
    scale = build_input_scale(replace(tiny_config, encoder_input="imagenet"))
    torch.testing.assert_close(scale(images), small_sam().preprocess(255 * images))


def test_unit_leaves_the_values_as_they_are(tiny_config, images):
    assert build_input_scale(tiny_config)(images) is images


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3, 2])
def test_the_network_sees_the_scaled_volume(tiny_config, channels):
    config = replace(tiny_config, encoder_input="imagenet")
    scaled, plain = TPMamba(channels, 2, config), TPMamba(3, 2, tiny_config)
    assert scaled.state_dict().keys() - {"to_rgb.weight"} == plain.state_dict().keys()  # checkpoints stay as they are
    plain.load_state_dict(scaled.state_dict(), strict=channels != 2)
    volume = torch.rand(1, channels, 3, 16, 24)
    rgb = volume.mean(1, keepdim=True).expand(-1, 3, -1, -1, -1) if channels < 3 else volume
    mean, std = (torch.tensor(x).reshape(3, 1, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = plain.features((rgb - mean) / std)
    for ours, wanted in zip(scaled.features(volume), expected, strict=True):
        torch.testing.assert_close(ours, wanted)


def test_another_scale_is_refused(tiny_config):
    with pytest.raises(ValueError, match="encoder_input 'zscore': it must be 'unit' or 'imagenet'"):
        TPMamba(1, 2, replace(tiny_config, encoder_input="zscore"))
