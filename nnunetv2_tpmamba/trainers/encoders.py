"""The paper's method on other encoders than SAM ViT-B."""

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
