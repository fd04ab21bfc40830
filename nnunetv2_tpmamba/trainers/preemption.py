"""nnUNetTrainerPreemptible: a trainer that a signal stops in time, and that then loses no finished epoch."""

import multiprocessing
import signal
import sys
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from torch import Tensor, distributed, nn
from torch.utils._pytree import tree_map_only

from nnunetv2_tpmamba.config import PREEMPTED

from .safe import nnUNetTrainerSafe
from .stop_signals import SAME_SIGNAL, end_at_once, handled_by, kill_children, withheld


class nnUNetTrainerPreemptible(nnUNetTrainerSafe):
    """Ends with the status ``PREEMPTED`` after SIGUSR1 or SIGTERM; ``--c`` goes on as if it had not been stopped.

    In an epoch, the iteration is finished, then the state in which the epoch began is saved as ``checkpoint_latest``,
    because nnU-Net continues at the beginning of an epoch. Several processes of one training agree after each
    iteration, so that none waits for another that has ended. Before the training and in the final validation the
    process ends at once: both leave only whole files, and are repeated. A second signal ends it at once everywhere.
    """

    current_epoch: int
    _stopped_by: signal.Signals | None = None
    _stopped_at = 0.0
    _epoch_start: "EpochStart | None" = None

    def ending_at_once(self, when: str) -> AbstractContextManager:
        """Let a stop signal end the process at once until the context ends.

        Args:
            when: completes "Stopped by SIGTERM ..." in the log, and says what to do.
        """
        return handled_by(lambda received: self._end_at_once(received, when))

    def run_training(self) -> None:
        # torch lets a process of several receive SIGINT when the process that started all of them is gone
        more = [signal.SIGINT] if self.is_ddp else []
        not_ours = multiprocessing.active_children()
        try:
            with handled_by(self._note, *more):
                super().run_training()
                self._end_if_asked()
        finally:  # else Python would wait at its end for workers that an error left, and that do not receive SIGTERM
            for loader in (self.dataloader_train, self.dataloader_val):
                if isinstance(loader, NonDetMultiThreadedAugmenter):
                    loader._finish()
            kill_children(spared=not_ours)

    def get_dataloaders(self) -> tuple:
        with withheld():
            return super().get_dataloaders()

    def on_epoch_start(self) -> None:
        self._epoch_start = None  # before the next one is made, which takes as much memory
        if self.writes_checkpoints and not self.disable_checkpointing:
            self._epoch_start = EpochStart(self.network, self.optimizer, self.grad_scaler)
        self._end_if_asked()
        super().on_epoch_start()

    def train_step(self, batch: dict) -> dict:
        result = super().train_step(batch)
        self._end_if_asked()
        return result

    def validation_step(self, batch: dict) -> dict:
        result = super().validation_step(batch)
        self._end_if_asked()
        return result

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        summary = Path(self.output_folder, "validation", "summary.json")
        former = _version(summary)

        def end(received: signal.Signals) -> None:
            if _version(summary) == former:  # else nnU-Net is writing it, as its last file, and ends in a moment
                for logger in self.logger.loggers:  # W&B's, which would lose the last epochs
                    logger.run.finish(exit_code=PREEMPTED)
                self._end_at_once(received, "in the final validation; continue with --c, which repeats it")

        with handled_by(end):
            super().perform_actual_validation(save_probabilities)

    def _note(self, received: signal.Signals) -> None:
        if self._stopped_by is None:
            self._stopped_by, self._stopped_at = received, time.monotonic()
        elif time.monotonic() - self._stopped_at >= SAME_SIGNAL:
            when = f"in epoch {self.current_epoch} by a second signal; continue with --c from the last checkpoint"
            self._end_at_once(received, when)

    def _end_if_asked(self) -> None:
        """End the training if one of its processes has received a signal; all of them must call this together."""
        asked = int(self._stopped_by or 0)
        if self.is_ddp:
            highest = torch.tensor(asked, device=self.device)
            distributed.all_reduce(highest, distributed.ReduceOp.MAX)
            asked = int(highest)
        if not asked:
            return
        if self.writes_checkpoints:
            self.print_to_log_file(f"Stopped by {signal.Signals(asked).name} {self._save_epoch_start()}")
        if self.is_ddp:
            distributed.barrier()  # nnU-Net's parent process ends the others as soon as one has ended
        sys.exit(PREEMPTED)  # not by raising SystemExit, of which W&B would not learn the status

    def _save_epoch_start(self) -> str:
        """Save the state in which the running epoch began; return what the log says of it."""
        epoch = self.current_epoch
        if epoch == self.num_epochs:
            return "after the last epoch; continue with --c, which validates"
        if self._epoch_start is None:
            return f"in epoch {epoch}; nothing was saved, because checkpoints are switched off"
        self._epoch_start.restore()
        for values in self.logger.get_checkpoint().values():
            del values[epoch:]
        self.current_epoch = epoch - 1  # the last that is finished, to which nnU-Net adds one
        self.save_checkpoint(str(Path(self.output_folder, "checkpoint_latest.pth")))
        self.current_epoch = epoch
        before = f"{epoch} epoch{'s' * (epoch != 1)}"
        return f"in epoch {epoch}; checkpoint_latest.pth holds the {before} before it: continue with --c"

    def _end_at_once(self, received: signal.Signals, when: str) -> None:
        message = f"Stopped by {received.name} {when}"
        self.print_to_log_file(message, also_print_to_console=False)
        with suppress(RuntimeError):  # the signal may have come while something was printed
            print(message)
            sys.stdout.flush()
        end_at_once(PREEMPTED)


class EpochStart:
    """What an epoch of a training changes, in the computer's memory: 12 bytes for each trained parameter with AdamW."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, grad_scaler: Any) -> None:
        self._changing: list[Tensor] = [*(p for p in network.parameters() if p.requires_grad), *network.buffers()]
        self._optimizer, self._grad_scaler = optimizer, grad_scaler
        self._kept = _copy(
            [self._changing, optimizer.state_dict(), None if grad_scaler is None else grad_scaler.state_dict()]
        )

    @torch.no_grad()
    def restore(self) -> None:
        """Put the training back to where the epoch began, but for the curves and the number of the epoch."""
        changing, optimizer, grad_scaler = self._kept
        for tensor, kept in zip(self._changing, changing, strict=True):
            tensor.copy_(kept)
        self._optimizer.load_state_dict(optimizer)
        if self._grad_scaler is not None:
            self._grad_scaler.load_state_dict(grad_scaler)


def _copy(state: Any) -> Any:
    """Copy nested containers with every tensor in them to the CPU."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), state)


def _version(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None where there is none."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_mtime_ns, status.st_size
    return None
