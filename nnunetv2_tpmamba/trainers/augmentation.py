"""nnU-Net's Gaussian noise for images whose unit is not a standard deviation."""

from typing import Any

import torch
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from torch import Tensor


class ScaledGaussianNoise(GaussianNoiseTransform):
    """nnU-Net's noise, its strength in another unit per channel.

    Args:
        scale: per channel, what nnU-Net takes for 1.
        like: the transform whose strength and probabilities to keep.
    """

    def __init__(self, scale: list[float], like: GaussianNoiseTransform) -> None:
        super().__init__(like.noise_variance, like.p_per_channel, like.synchronize_channels)
        self.scale = torch.tensor(scale)[:, None, None, None]

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        return super()._apply_to_image(img / self.scale, **params) * self.scale
