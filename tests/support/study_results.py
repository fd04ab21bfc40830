"""Folders of trainings as nnU-Net leaves them at any moment, for tests that read them and train nothing."""

import json
import os
from types import SimpleNamespace

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def log(folder, *messages, age=0.0, now=0.0, name="training_log_2026_11_26_08_00_00.txt"):
    """Write messages with nnU-Net's own function into a log that was last written ``age`` seconds before ``now``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    for message in messages:
        nnUNetTrainer.print_to_log_file(
            SimpleNamespace(local_rank=0, log_file=str(file)), message, also_print_to_console=False
        )
    os.utime(file, (now - age, now - age))


def epochs(*numbers, seconds=60.0):
    """The messages of epochs that ended."""
    return [
        message
        for number in numbers
        for message in ("", f"Epoch {number}", "Current learning rate: 0.01", f"Epoch time: {seconds} s")
    ]


def split_message(fold):
    return f"This split has {len(fold.train)} training and {len(fold.val)} validation cases."


def begin(folder, num_epochs=10):
    """What nnU-Net writes when a training starts, besides its log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "debug.json").write_text(json.dumps({"num_epochs": str(num_epochs)}))


def finish(folder, cases=(), ending=".nii.gz"):
    """The last checkpoint and a validation of the cases."""
    (folder / "validation").mkdir(parents=True)
    (folder / "checkpoint_final.pth").touch()
    (folder / "validation" / "summary.json").touch()
    for case in cases:
        (folder / "validation" / f"{case}{ending}").touch()
