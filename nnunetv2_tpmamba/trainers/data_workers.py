"""Processes that make batches for a training, and that say why they end."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import SimpleQueue
from pathlib import Path
from traceback import extract_tb
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

NO_LONGER_ALIVE = "background workers are no longer alive"  # in batchgenerators' message, which says no more


class ReportingDataLoader(nnUNetDataLoader):
    """nnU-Net's data loader, which also hands the error that ends it to the process that trains.

    Args:
        reports: where the error goes.
        seed: of the random numbers of the process that it makes batches in; None leaves them as they are.
    """

    def __init__(self, *args: Any, reports: "SimpleQueue[str]", seed: int | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reports = reports
        self.seed = seed

    def __next__(self) -> dict:
        if self.seed is not None:  # at the first batch, because nnU-Net's processes seed themselves when they begin
            seed_everything(self.seed + self.thread_id)
            self.seed = None
        try:
            return super().__next__()
        except Exception as error:
            frame = extract_tb(error.__traceback__)[-1]
            self.reports.put(f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})")
            raise


@contextmanager
def reporting(reports: "SimpleQueue[str]", seed: int | None = None) -> Iterator[None]:
    """Let nnU-Net's trainer make data loaders that report why they end, while the ``with`` statement lasts.

    Args:
        reports, seed: see :class:`ReportingDataLoader`.
    """
    host = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetDataLoader"  # where its get_dataloaders looks it up
    with patch(host, partial(ReportingDataLoader, reports=reports, seed=seed)):
        yield


def seed_everything(seed: int) -> None:
    """Seed the random numbers of PyTorch, NumPy and Python in this process."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def why_ended(error: Exception, reports: "SimpleQueue[str]") -> str | None:
    """Say why a process that made batches ended; None if ``error`` does not come from the end of such a process."""
    if NO_LONGER_ALIVE not in str(error):
        return None
    if reports.empty():
        return (
            "a process that made batches was ended from outside, as for lack of memory; export a smaller "
            "nnUNet_n_proc_DA, then continue with --c"
        )
    return f"a process that made batches ended with {reports.get()}; its traceback stands above"
