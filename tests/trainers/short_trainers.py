"""Trainers with the fewest iterations nnU-Net allows, so that its real commands finish in a test."""

from dataclasses import replace

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_tpmamba.variants import nnUNetTrainerTPMamba_demo, nnUNetTrainerTPMamba_small


class nnUNetTrainerTPMamba_small_short(nnUNetTrainerTPMamba_small):
    config = replace(
        nnUNetTrainerTPMamba_small.config,
        num_epochs=1,
        num_iterations_per_epoch=2,
        num_val_iterations_per_epoch=1,
        mirroring=False,
    )


class nnUNetTrainerTPMamba_demo_short(nnUNetTrainerTPMamba_demo):
    """Two epochs; stops after the first, as if killed, while a file called ``stop`` is in its folder."""

    config = replace(
        nnUNetTrainerTPMamba_demo.config, num_epochs=2, num_iterations_per_epoch=3, num_val_iterations_per_epoch=1
    )


class nnUNetTrainer_short(nnUNetTrainer):
    """The stock baseline."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
