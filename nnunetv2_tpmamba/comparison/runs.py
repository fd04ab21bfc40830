"""Read what one training left behind: its predictions of the validation cases, its curve over the epochs, its cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier

from nnunetv2_tpmamba.data.cases import files_of_cases
from nnunetv2_tpmamba.data.dataset_json import read_json
from nnunetv2_tpmamba.data.training_log import (
    read_environment,
    read_peak_memory,
    read_prediction_peak_memory,
    read_prediction_seconds,
)
from nnunetv2_tpmamba.trained.checkpoints import load_without_code

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """What one training took; None where no file says it."""

    epochs: int | None = None
    epoch_seconds: float | None = None  # median of the epochs
    hours: float | None = None  # of all epochs
    parameters: int | None = None
    trained_parameters: int | None = None
    checkpoint_bytes: int | None = None
    peak_memory_gb: float | None = None
    prediction_seconds: float | None = None  # median of the cases of the final validation
    prediction_memory_gb: float | None = None


@dataclass(frozen=True)
class Run:
    """One training of one fold of one method.

    Args:
        predictions: the predicted file of each case.
        curve: nnU-Net's pseudo Dice (mean over classes, validation patches) after each epoch.
        data: text that two runs share if they were prepared from the same data; empty where no file says it.
        iterations_per_epoch: None where no file says it.
        environment: versions, device and pretrained weights by name, as far as they are known.
        repeat: which of the repeats of the same training it is, counted from 1.
        reader: the name of nnU-Net's reader with which it was validated; empty where no file says it.
    """

    method: str
    fold: str
    predictions: Mapping[str, Path]
    curve: tuple[float, ...] = ()
    cost: Cost = Cost()
    data: str = ""
    iterations_per_epoch: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    repeat: int = 1
    reader: str = ""

    @property
    def training(self) -> str:
        """The fold, and which repeat of its training it is if it is not the first."""
        return self.fold + (f", repeat {self.repeat}" if self.repeat > 1 else "")


def model_folder(results: Path, trainer: str, plans: str, configuration: str) -> Path:
    """nnU-Net's folder of a model.

    Raises:
        ValueError: there is no such folder; the message names the models there are.
    """
    folder = results / convert_trainer_plans_config_to_identifier(trainer, plans, configuration)
    if not folder.is_dir():
        there = sorted(path.name for path in results.glob("*__*__*"))
        raise ValueError(
            f"{trainer} has no results with {plans} and {configuration}: {folder} does not exist; train it first"
            + (f", or choose one of {', '.join(there)}" if there else "")
        )
    return folder


def unfinished(folder: Path, fold: str) -> str | None:
    """Why a fold cannot be compared; None if it can."""
    if not (folder / f"fold_{fold}").is_dir():
        return "was not trained"
    if not (folder / f"fold_{fold}" / "validation" / "summary.json").is_file():
        return "is not finished (no validation/summary.json; continue it with --c, or validate with --val)"
    return None


def begun_folds(folder: Path) -> list[str]:
    """The folds that nnU-Net has begun to train, the numbered ones first."""
    folds = [path.name.removeprefix("fold_") for path in folder.glob("fold_*") if path.is_dir()]
    return sorted(folds, key=lambda fold: (not fold.isdecimal(), int(fold) if fold.isdecimal() else 0, fold))


def read_run(method: str, folder: Path, fold: str, ending: str, repeat: int = 1) -> Run:
    """Read what nnU-Net wrote for one fold; of a checkpoint only tensors, numbers and texts are loaded.

    Args:
        folder: nnU-Net's folder of the model.
        ending: how the names of label maps end.
        repeat: which of the repeats of the same training it is, counted from 1.
    """
    fold_folder = folder / f"fold_{fold}"
    validation = fold_folder / "validation"
    log = read_logs(fold_folder)
    cost, curve = read_checkpoint(fold_folder, log)
    fingerprint = folder / "dataset_fingerprint.json"
    debug = fold_folder / "debug.json"  # into which nnU-Net writes all attributes of the trainer, as texts
    return Run(
        method,
        fold,
        files_of_cases(validation, ending),
        curve,
        cost,
        fingerprint.read_text(errors="replace") if fingerprint.is_file() else "",
        known(lambda: int(read_json(debug)["num_iterations_per_epoch"])),
        (known(lambda: environment_of_any_trainer(read_json(debug))) or {}) | read_environment(log),
        repeat,
        reader_in(folder),
    )


def reader_in(model: Path) -> str:
    """The name of the reader in the plans of a model; empty if they cannot be read."""
    return known(lambda: str(read_json(model / "plans.json")["image_reader_writer"])) or ""


def read_logs(fold_folder: Path) -> str:
    """All training logs of a fold, one after the other."""
    logs = sorted(fold_folder.glob("training_log_*.txt"))
    return "\n".join(log.read_text(errors="replace") for log in logs)


def environment_of_any_trainer(debug: Mapping[str, Any]) -> dict[str, str]:
    """What nnU-Net's ``debug.json`` says of the environment, by the names that this package's trainers log."""
    found = {"torch": debug.get("torch_version"), "device": debug.get("gpu_name", debug.get("device"))}
    return {name: str(value) for name, value in found.items() if value}


def read_checkpoint(fold_folder: Path, log: str) -> tuple[Cost, tuple[float, ...]]:
    """Read cost and curve of one fold from its newest checkpoint and from its training logs."""
    prediction = known(lambda: read_prediction_seconds(log))
    logged = Cost(
        peak_memory_gb=read_peak_memory(log),
        prediction_seconds=float(np.median(prediction)) if prediction else None,
        prediction_memory_gb=read_prediction_peak_memory(log),
    )
    path = next((fold_folder / name for name in CHECKPOINTS if (fold_folder / name).is_file()), None)
    if path is None:
        return logged, ()
    try:
        checkpoint = load_without_code(path)
    except ValueError:  # a checkpoint that cannot be read only leaves the cost unknown
        return logged, ()
    seconds = known(lambda: seconds_of_epochs(checkpoint["logging"]))
    cost = replace(
        logged,
        epochs=None if seconds is None else len(seconds),
        epoch_seconds=float(np.median(seconds)) if seconds else None,
        hours=None if seconds is None else sum(seconds) / 3600,
        parameters=known(lambda: elements(checkpoint["network_weights"])),
        trained_parameters=known(lambda: trained_elements(checkpoint["optimizer_state"])),
        checkpoint_bytes=path.stat().st_size,
    )
    return cost, known(lambda: tuple(float(value) for value in checkpoint["logging"]["mean_fg_dice"])) or ()


def known(read: Callable[[], T]) -> T | None:
    """Return what ``read`` does, or None if it fails: another trainer may write its checkpoint in another way."""
    try:
        return read()
    except Exception:  # its kind depends on what the checkpoint holds instead
        return None


def seconds_of_epochs(logged: Mapping[str, Any]) -> list[float]:
    """How long each epoch took, by nnU-Net's logged times; an epoch that did not end is left out."""
    ends, starts = (logged[f"epoch_{what}_timestamps"] for what in ("end", "start"))
    return [float(end - start) for start, end in zip(starts, ends, strict=False)]


def elements(weights: Mapping[str, Any]) -> int:
    """The number of elements of all tensors; a tensor listed twice, as in nnU-Net's own networks, counts once."""
    tensors = [value for value in weights.values() if isinstance(value, torch.Tensor)]
    return sum({tensor.untyped_storage().data_ptr(): tensor.numel() for tensor in tensors}.values())


def trained_elements(optimizer_state: Mapping[str, Any]) -> int | None:
    """The number of trained elements, by the state that the optimiser keeps for each; None if it keeps no state."""
    return sum(map(largest_tensor, optimizer_state["state"].values())) or None


def largest_tensor(state: Mapping[str, Any]) -> int:
    """The number of elements of the largest tensor that an optimiser keeps for one parameter."""
    return max((value.numel() for value in state.values() if isinstance(value, torch.Tensor)), default=0)
