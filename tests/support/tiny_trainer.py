"""A trainer whose network takes no time, a batch for it, and what a step changed."""

from dataclasses import replace

import torch
from support.configs import TINY

from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

NAME = "Dataset901_Blobs"


class nnUNetTrainerTPMamba_tiny(nnUNetTrainerTPMamba):
    config = TINY
    testbed = replace(
        nnUNetTrainerTPMamba.testbed,
        patch_size=(8, 16, 16),
        num_epochs=3,
        num_iterations_per_epoch=2,
        num_val_iterations_per_epoch=1,
    )


def batch(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    data = torch.rand(1, 1, 8, 16, 16, generator=generator)
    return {"data": data, "target": (data > 0.5).to(torch.int16), "keys": ["case0"]} | changes


def state(network):
    """A copy of the parameters; nnU-Net's bricks list theirs twice in a state dict."""
    return {name: x.detach().clone() for name, x in network.named_parameters()}


def changed_since(before, network):
    return {name for name, x in network.named_parameters() if not torch.equal(x, before[name])}
