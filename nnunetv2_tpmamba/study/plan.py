"""The plan of a study, ``study.json`` beside the splits: which rows train which folds, how often, and with what."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier

from nnunetv2_tpmamba.data.few_shot import Fold
from nnunetv2_tpmamba.data.folders import place_of_repeat
from nnunetv2_tpmamba.files import whole_or_absent

STUDY = "study.json"
PACKAGES = ("nnunetv2_tpmamba", "nnunetv2", "torch")


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Args:
        row: name of the trainer.
        fold: what it trains on.
        repeat: which of the repeats of the same training, counted from 1.
    """

    row: str
    fold: Fold
    repeat: int


def installed_versions() -> dict[str, str]:
    """The versions of the packages that decide what a training does."""
    return {name: version(name) for name in PACKAGES}


@dataclass(frozen=True)
class Study:
    """What is trained.

    Args:
        dataset: the dataset's name.
        rows: names of nnU-Net's trainers, each of which trains every fold.
        folds: the folds of ``splits_final.json``, and what they are.
        seed: what the folds were drawn with. Trainings have no seed: nnU-Net draws another one for each.
        repeats: how often every training is made.
        configuration, plans: names, as nnU-Net's commands take them.
        versions: of the packages, when the study was planned.
    """

    dataset: str
    rows: tuple[str, ...]
    folds: tuple[Fold, ...]
    seed: int
    repeats: int
    configuration: str
    plans: str
    versions: Mapping[str, str] = field(default_factory=installed_versions, compare=False)

    def trainings(self) -> list[Training]:
        """All trainings, in the order in which the script makes them."""
        repeats = range(1, self.repeats + 1)
        return [Training(row, fold, repeat) for repeat, fold, row in product(repeats, self.folds, self.rows)]

    def folder(self, training: Training) -> Path:
        """Where nnU-Net puts a training, relative to nnUNet_results."""
        model = convert_trainer_plans_config_to_identifier(training.row, self.plans, self.configuration)
        return place_of_repeat(training.repeat) / self.dataset / model / f"fold_{training.fold.fold}"

    def as_json(self) -> dict[str, Any]:
        """Return the study as ``study.json`` holds it."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"folds": [fold.as_json() for fold in self.folds]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Study":
        """Read what :meth:`as_json` returned."""
        folds = tuple(Fold.from_json(fold) for fold in values["folds"])
        return cls(**{**values, "rows": tuple(values["rows"]), "folds": folds})

    def differences(self, other: "Study") -> list[str]:
        """The names of what another plan has otherwise; the versions do not count."""
        return [
            each.name for each in fields(self) if each.compare and getattr(self, each.name) != getattr(other, each.name)
        ]


def read_study(folder: Path) -> Study:
    """Read the plan of a dataset's study.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.

    Raises:
        FileNotFoundError: no study was planned.
        ValueError: ``study.json`` is damaged.
    """
    path = folder / STUDY
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; plan the study first: nnUNetv2_tpmamba study plan")
    try:
        return Study.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it and give the command that planned the "
            "study again, which keeps the trainings"
        ) from error


def plans_folds(folder: Path, folds: Sequence[Fold]) -> bool:
    """Whether the study of a dataset is on these folds."""
    try:
        return read_study(folder).folds == tuple(folds)
    except (FileNotFoundError, ValueError):  # absent, or damaged
        return False


def check_plan(folder: Path, study: Study) -> None:
    """Refuse to replace the plan of another study.

    Raises:
        FileExistsError: ``study.json`` holds another plan.
        ValueError: ``study.json`` is damaged.
    """
    path = folder / STUDY
    if path.is_file() and (different := study.differences(read_study(folder))):
        raise FileExistsError(
            f"{path} holds a study with other {', '.join(different)}; give the command that planned it, or replace it "
            "with --overwrite: trainings on the same folds then count for the new study. Nothing was changed"
        )


def write_study(folder: Path, study: Study) -> None:
    """Write ``study.json``; a file that holds the same plan stays, with the versions it was planned with."""
    try:
        if read_study(folder) == study:
            return
    except (FileNotFoundError, ValueError):  # absent, or damaged and to be replaced
        pass
    with whole_or_absent(folder / STUDY) as unfinished:
        unfinished.write_text(json.dumps(study.as_json(), indent=1), encoding="utf-8")
