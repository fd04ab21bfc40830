"""The paper's method on other encoders than SAM ViT-B, and with another scale of the encoder's input."""

from dataclasses import replace

from nnunetv2_tpmamba.config import VIT_H_CONFIG, VIT_L_CONFIG

from .tpmamba import nnUNetTrainerTPMamba


class nnUNetTrainerTPMamba_vitl(nnUNetTrainerTPMamba):
    """The paper's network on SAM ViT-L: 24 blocks of 1024 channels, and an adapter after each of them."""

    config = VIT_L_CONFIG
    needs = "a GPU, SAM ViT-L's weights"


class nnUNetTrainerTPMamba_vith(nnUNetTrainerTPMamba):
    """The paper's network on SAM ViT-H: 32 blocks of 1280 channels, and an adapter after each of them."""

    config = VIT_H_CONFIG
    needs = "a GPU, SAM ViT-H's weights"


class nnUNetTrainerTPMamba_imagenet(nnUNetTrainerTPMamba):
    """The paper's network whose encoder gets values scaled as in SAM's own training, not [0, 1]."""

    config = replace(nnUNetTrainerTPMamba.config, encoder_input="imagenet")
