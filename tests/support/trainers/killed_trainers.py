"""Trainers that can be repeated exactly, and that get a signal where the environment variable KILL_AT tells them to.

KILL_AT is an epoch, a place, how far through it, from 0 to 1, and signals: "2 train_step 0.5 SIGKILL" is after half of
the iterations, "2 checkpoint_latest 0.9 SIGTERM SIGTERM" twice when nine tenths of the file are written. KILL_ALL lets
every process of the training's session receive them.
"""

import io
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_tpmamba.data.manifest import Manifest
from nnunetv2_tpmamba.trainers.stop_signals import SAME_SIGNAL
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba_demo

torch_save = torch.save


class nnUNetTrainerTPMamba_killed(nnUNetTrainerTPMamba_demo):
    """Five epochs of a network that takes no time, and random numbers that depend on the epoch alone."""

    config = replace(
        nnUNetTrainerTPMamba_demo.config,
        embed_dim=32,
        num_heads=2,
        adapter_dim=8,
        decoder_dim=8,
        checkpointing=False,  # None would count the memory of a step at each start, for seconds
    )
    testbed = replace(
        nnUNetTrainerTPMamba_demo.testbed,
        patch_size=(16, 32, 32),
        num_epochs=5,
        num_iterations_per_epoch=2,
        num_val_iterations_per_epoch=1,
    )
    checkpoint_every = 1

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.testbed.num_epochs
        self.save_every = self.checkpoint_every

    def initialize(self, pretrained=True):
        torch.manual_seed(0)
        super().initialize(pretrained)

    def preprocess(self):
        write = Manifest.write

        def write_and_die(manifest, folder):
            write(manifest, folder)
            made = [case for case in manifest.cases.values() if case]
            self.die_at("preprocess", len(made) / len(manifest.cases))

        Manifest.write = write_and_die
        super().preprocess()

    def on_train_start(self):
        super().on_train_start()
        self.logger.plot_progress_png = lambda folder: None  # it takes longer than such an epoch

    def on_train_epoch_start(self):
        self.steps = 0
        super().on_train_epoch_start()
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(self.current_epoch)

    def on_train_epoch_end(self, train_outputs):
        self.steps = 0
        super().on_train_epoch_end(train_outputs)

    def train_step(self, batch):
        result = super().train_step(batch)
        self.steps += 1
        self.die_at("train_step", self.steps / self.num_iterations_per_epoch)
        return result

    def validation_step(self, batch):
        result = super().validation_step(batch)
        self.steps += 1
        self.die_at("validation_step", self.steps / self.num_val_iterations_per_epoch)
        return result

    def save_checkpoint(self, filename):
        torch.save = self.save_or_die
        super().save_checkpoint(filename)

    def save_or_die(self, content, filename):
        part = self.part_of(Path(filename).stem)
        if part is not None:
            write_partly(content, filename, part)
            self.die()
        torch_save(content, filename)

    def on_epoch_end(self):
        super().on_epoch_end()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        with Path(self.output_folder, "memory.txt").open("a") as file:
            file.write(f"{self.current_epoch} {pages * os.sysconf('SC_PAGE_SIZE')}\n")

    def perform_actual_validation(self, save_probabilities=False):
        predict = nnUNetPredictor.predict_sliding_window_return_logits

        def predict_and_die(*args):
            logits = predict(*args)
            self.die_at("validation", 1)
            return logits

        nnUNetPredictor.predict_sliding_window_return_logits = predict_and_die
        super().perform_actual_validation(save_probabilities)

    def part_of(self, place):
        """How far through a place of this epoch the signal comes; None if it does not come there."""
        kill_at = os.environ.get("KILL_AT", "").split()
        return float(kill_at[2]) if kill_at[:2] == [str(self.current_epoch), place] else None

    def die_at(self, place, part):
        at = self.part_of(place)
        if at is not None and part > at:
            self.die()

    def die(self):
        for i, name in enumerate(os.environ["KILL_AT"].split()[3:]):
            if i:
                time.sleep(SAME_SIGNAL)
            send = os.killpg if os.environ.get("KILL_ALL") else os.kill
            send(os.getpid(), getattr(signal, name))


class nnUNetTrainerTPMamba_soak(nnUNetTrainerTPMamba_killed):
    """The demo's trainer for 200 epochs, a checkpoint after every fifth."""

    config = nnUNetTrainerTPMamba_demo.config
    testbed = replace(
        nnUNetTrainerTPMamba_killed.testbed, num_epochs=200, patch_size=nnUNetTrainerTPMamba_demo.testbed.patch_size
    )
    checkpoint_every = 5


def write_partly(content, filename, part):
    whole = io.BytesIO()
    torch_save(content, whole)
    with open(filename, "wb") as file:
        file.write(whole.getvalue()[: int(part * whole.tell())])
        file.flush()
        os.fsync(file.fileno())
