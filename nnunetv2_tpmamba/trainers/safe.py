"""nnUNetTrainerSafe: nnU-Net's trainer, which says at once what goes wrong and loses no checkpoint."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import SimpleQueue
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed

from nnunetv2_tpmamba.data.labels import Labels
from nnunetv2_tpmamba.data.plans_entries import CHANNELS, name_in
from nnunetv2_tpmamba.data.training_log import (
    environment_line,
    peak_memory_line,
    prediction_peak_memory_line,
    stopped_line,
)
from nnunetv2_tpmamba.files import unwritten, whole_or_absent

from .data_workers import reporting, why_ended
from .environment import environment
from .memory import peak_bytes, restart_peak


class nnUNetTrainerSafe(nnUNetTrainer):
    """nnU-Net's trainer with whole checkpoints, a check of every loss, and a log of what a report needs.

    The log holds the environment of the training, the peak memory of training and of the final validation, and as its
    last message the error that ended it, whatever it is. A training stops with a message that says what to do where a
    loss is not finite, where the device's memory is too little, where a checkpoint cannot be written, and where a
    process that makes batches ends.
    """

    advice_on_memory = "train on a device with more memory"
    """What to do when a training does not fit into the device's memory."""

    seed: int | None = None
    """Of the random numbers of the processes that make batches; None: every training has others."""

    _best_ema: float | None
    _reports: "SimpleQueue[str] | None" = None

    @property
    def writes_checkpoints(self) -> bool:
        """Whether this process, of all that train together on all nodes, is the one that writes checkpoints."""
        return not self.is_ddp or distributed.get_rank() == 0

    def on_train_start(self) -> None:
        self.print_to_log_file(environment_line(environment(self.device)))
        super().on_train_start()

    def get_dataloaders(self) -> tuple:
        self._reports = SimpleQueue()
        with reporting(self._reports, self.seed):
            return super().get_dataloaders()

    def run_training(self) -> None:
        with self._errors_logged():
            try:
                super().run_training()
            except RuntimeError as error:
                if self._reports is not None and (reason := why_ended(error, self._reports)):
                    self._stop(reason, error)
                raise

    @contextmanager
    def _errors_logged(self) -> Iterator[None]:
        """Log the error that ends a training, of which nnU-Net leaves nothing but a traceback on the screen."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            self.print_to_log_file(stopped_line(error))
            raise

    def train_step(self, batch: dict) -> dict:
        try:
            return self._finite(super().train_step(batch), "training", batch)
        except torch.OutOfMemoryError as error:
            self._stop(
                f"{self.device} has too little memory for this training ({str(error).splitlines()[0]}); end other "
                f"processes on it, {self.advice_on_memory}; checkpoints are kept, so --c continues",
                error,
            )

    def validation_step(self, batch: dict) -> dict:
        return self._finite(super().validation_step(batch), "validation", batch)

    def on_train_end(self) -> None:
        super().on_train_end()
        peak = peak_bytes(self.device)
        if peak is not None:
            self.print_to_log_file(peak_memory_line(peak))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        restarted = restart_peak(self.device)
        with self._errors_logged():
            super().perform_actual_validation(save_probabilities)
        peak = peak_bytes(self.device) if restarted else None
        if peak is not None:
            self.print_to_log_file(prediction_peak_memory_line(peak))

    def save_checkpoint(self, filename: str) -> None:
        """Save as nnU-Net does, but keep the former file until the new one is whole.

        Raises:
            RuntimeError: the file cannot be written; the former file is still there.
        """
        if Path(filename).name == "checkpoint_latest.pth":
            self._save_if_best()
        if not self.writes_checkpoints:
            return
        if self.disable_checkpointing:
            return super().save_checkpoint(filename)
        try:
            with whole_or_absent(Path(filename)) as unfinished:
                super().save_checkpoint(str(unfinished))
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            problem = unwritten(Path(filename), error)
            self._stop(f"{problem}. Earlier checkpoints are whole: make room, then continue with --c", error)

    def check_origin(self, file: str) -> None:
        """Raise ``ValueError`` for a checkpoint of another trainer, which may fit, or of other classes or channels."""
        checkpoint, name = torch.load(file, "cpu", mmap=True, weights_only=False), type(self).__name__
        if (writer := checkpoint["trainer_name"]) != name:
            raise ValueError(
                f"{file} was written by {writer}, not by {name}: continue with -tr {writer}, or start a new training "
                "with -pretrained_weights, which takes weights of the same network"
            )
        trained_on = checkpoint["init_args"].get("dataset_json", self.dataset_json)  # an exported model names none
        before, now = ((Labels.of(of), len(of[name_in(of, CHANNELS)])) for of in (trained_on, self.dataset_json))
        if [*before[0].classes.values(), before[1]] != [*now[0].classes.values(), now[1]]:
            raise ValueError(
                f"{file} was trained on {before[1]} channels and the classes {before[0].described}; dataset.json now "
                f"has {now[1]} channels and {now[0].described}, so the weights do not fit: start a new training, "
                "without --c"
            )

    def _save_if_best(self) -> None:
        """Write checkpoint_best before checkpoint_latest, which records the best score.

        nnU-Net writes it afterwards. A training that is killed between the two would then continue from a
        checkpoint_latest with the best score, and never write the checkpoint_best of that score.
        """
        means = self.logger.get_value("ema_fg_dice", step=None)
        if not means:  # no epoch is finished
            return
        ema = means[-1]
        if self._best_ema is None or ema > self._best_ema:
            self._best_ema = ema
            self.print_to_log_file(f"New best EMA pseudo Dice: {ema:.4f}")
            self.save_checkpoint(os.path.join(self.output_folder, "checkpoint_best.pth"))

    def _finite(self, result: dict, phase: str, batch: dict) -> dict:
        if not np.all(np.isfinite(result["loss"])):
            self._stop(
                f"the {phase} loss became {float(np.max(result['loss']))} in epoch {self.current_epoch} (cases "
                f"{', '.join(map(str, batch['keys']))}), so training stops here; the checkpoints in "
                f"{self.output_folder} are older. Check these cases for NaN or infinite voxels; if there are none, "
                "continue with --c from the last checkpoint, and if it happens again, train a subclass with a lower "
                "initial_lr in its testbed"
            )
        return result

    def _stop(self, message: str, cause: Exception | None = None) -> NoReturn:
        """End the training with a message; :meth:`_errors_logged` logs it, because a worker's traceback may hide it."""
        raise RuntimeError(message) from cause
