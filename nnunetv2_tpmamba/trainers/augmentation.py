"""nnU-Net's Gaussian noise for images whose unit is not a standard deviation."""

from typing import Any

import torch
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from torch import Tensor


class ScaledGaussianNoise(GaussianNoiseTransform):
    """nnU-Net's Gaussian noise, with its strength scaled for each channel.

    Args:
        scale: for each channel, the image value that counts as one standard deviation.
        like: the transform whose strength and probabilities to keep.

    Shape:
        images ``(C, D, H, W)``.
    """

    def __init__(self, scale: list[float], like: GaussianNoiseTransform) -> None:
        super().__init__(like.noise_variance, like.p_per_channel, like.synchronize_channels)
        self.scale = torch.tensor(scale)[:, None, None, None]

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        return super()._apply_to_image(img / self.scale, **params) * self.scale


def with_noise_in_hu(transforms: ComposeTransforms, scale: list[float]) -> ComposeTransforms:
    """Replace the Gaussian noise in nnU-Net's augmentation by noise of the same strength in HU.

    Args:
        transforms: nnU-Net's augmentation, which is changed in place.
        scale: see :class:`ScaledGaussianNoise`.
    """
    for transform in transforms.transforms:
        inner = getattr(transform, "transform", None)
        if isinstance(inner, GaussianNoiseTransform):
            transform.transform = ScaledGaussianNoise(scale, inner)
    return transforms
