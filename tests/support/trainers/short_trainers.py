"""Trainers with few iterations, so that nnU-Net's real commands finish in a test."""

import os
import re
import signal
import time
from dataclasses import replace

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_tpmamba.trainers.catalogue import trainers
from nnunetv2_tpmamba.trainers.tpmamba import (
    nnUNetTrainerTPMamba,
    nnUNetTrainerTPMamba_demo,
    nnUNetTrainerTPMamba_small,
)

FEW = {"num_epochs": 1, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}


class nnUNetTrainerTPMamba_short(nnUNetTrainerTPMamba):
    """The full-size network, whose validation is not mirrored: that would take eight times as long."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, **FEW, mirroring=False)


class nnUNetTrainerTPMamba_thin_short(nnUNetTrainerTPMamba):
    """The full-size network on patches that take a CPU a second."""

    testbed = replace(nnUNetTrainerTPMamba.testbed, **FEW, spacing=(3.0, 2.0, 2.0), patch_size=(8, 32, 32))


class nnUNetTrainerTPMamba_small_short(nnUNetTrainerTPMamba_small):
    testbed = replace(nnUNetTrainerTPMamba_small.testbed, **FEW, mirroring=False)


class StopsAfterAnEpoch:
    """Saves after each epoch, and ends after the first, as if killed, while STOP_AFTER_AN_EPOCH is set."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.save_every = 1

    def on_epoch_end(self):
        super().on_epoch_end()
        if "STOP_AFTER_AN_EPOCH" in os.environ:
            os._exit(3)


class nnUNetTrainerTPMamba_tiny_short(nnUNetTrainerTPMamba_demo):
    """One epoch of a network that takes no time, for tests of many commands."""

    config = replace(
        nnUNetTrainerTPMamba_demo.config,
        encoder_image_size=64,
        embed_dim=32,
        num_heads=2,
        lora_rank=4,
        adapter_dim=8,
        decoder_dim=8,
    )
    testbed = replace(nnUNetTrainerTPMamba_demo.testbed, **FEW, patch_size=(16, 32, 32), initial_lr=1e-3)


class nnUNetTrainerTPMamba_tiny_fine(nnUNetTrainerTPMamba_tiny_short):
    """At the paper's spacing and patch size, so that predicting a large CT takes as many voxels and patches."""

    config = replace(
        nnUNetTrainerTPMamba_tiny_short.config,
        encoder_patch_size=nnUNetTrainerTPMamba.config.encoder_patch_size,
        encoder_image_size=192,
    )
    testbed = replace(
        nnUNetTrainerTPMamba_tiny_short.testbed,
        spacing=nnUNetTrainerTPMamba.testbed.spacing,
        patch_size=nnUNetTrainerTPMamba.testbed.patch_size,
    )


class nnUNetTrainerTPMamba_tiny_stopped(StopsAfterAnEpoch, nnUNetTrainerTPMamba_tiny_short):
    testbed = replace(nnUNetTrainerTPMamba_tiny_short.testbed, num_epochs=2)


class nnUNetTrainerTPMamba_tiny_diverging(nnUNetTrainerTPMamba_tiny_stopped):
    testbed = replace(nnUNetTrainerTPMamba_tiny_stopped.testbed, initial_lr=1e30)


class nnUNetTrainerTPMamba_tiny_without_memory(nnUNetTrainerTPMamba_tiny_short):
    """Its steps fail as on a card that is too small."""

    def _build_loss(self):
        def fail(output, target):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

        return fail


class nnUNetTrainerTPMamba_tiny_waiting(nnUNetTrainerTPMamba_tiny_short):
    """Its second epoch waits until the file GATE exists, for up to a minute."""

    testbed = replace(nnUNetTrainerTPMamba_tiny_short.testbed, num_epochs=3, num_iterations_per_epoch=30)

    def train_step(self, batch):
        end = time.monotonic() + 2
        while self.current_epoch == 1 and not os.path.exists(os.environ["GATE"]) and time.monotonic() < end:
            time.sleep(0.05)
        return super().train_step(batch)


class nnUNetTrainerTPMamba_tiny_killed(nnUNetTrainerTPMamba_tiny_short):
    """Its process is killed in the first step, as by a system without memory."""

    def _build_loss(self):
        return lambda output, target: os.kill(os.getpid(), signal.SIGKILL)


def short_row(name, cls):
    """A row at full width for two epochs, on coarse voxels of which one patch holds a whole CT of the tests."""
    numbers = FEW | {"num_epochs": 2, "spacing": (1.5, 1.5, 1.5), "patch_size": (64, 64, 64), "mirroring": False}
    return type(
        f"{name}_row",
        (StopsAfterAnEpoch, cls),
        {"__module__": __name__, "__doc__": cls.__doc__, "testbed": replace(cls.testbed, **numbers)},
    )


OF_TABLE_1 = {
    f"{name}_row": short_row(name, cls)
    for name, cls in trainers().items()
    if name == "nnUNetTrainerTPMamba" or re.fullmatch("nnUNetTrainerTestbed_[^_]+", name)
}
globals().update(OF_TABLE_1)  # nnU-Net looks them up by name


class nnUNetTrainer_short(nnUNetTrainer):
    """The stock baseline."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
