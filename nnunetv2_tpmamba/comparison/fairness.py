"""Notes for the top of the report: what makes a comparison of trainings unfair, and what is not known about it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_tpmamba.data.dataset_json import read_json
from nnunetv2_tpmamba.data.splits import SPLITS, is_splits

from .environments import different_environments
from .runs import Run

Splits = Sequence[Mapping[str, Sequence[str]]]


def unfair(runs: Sequence[Run], splits: Splits | None) -> tuple[str, ...]:
    """Notes on trainings of different length, data or environment, or validated on cases they may have trained on."""
    each = {(run.method, run.training): run for run in runs}
    epochs = differing("epochs", {key: run.cost.epochs for key, run in each.items()})
    iterations = differing("iterations per epoch", {key: run.iterations_per_epoch for key, run in each.items()})
    return (*epochs, *iterations, *different_data(runs), *different_environments(runs), *leaks(runs, splits or []))


def differing(what: str, of_runs: Mapping[tuple[str, str], int | None]) -> list[str]:
    """A note where the trainings differ in a number, or where the number is known of some trainings only.

    Args:
        what: the name of the number.
        of_runs: the number by method and training; None where it is not known.
    """
    if len(set(of_runs.values())) < 2:
        return []
    of_methods: dict[str, set[int | None]] = {}
    for (method, _), value in of_runs.items():
        of_methods.setdefault(method, set()).add(value)
    shown = "; ".join(
        f"{method}: {', '.join('unknown' if value is None else str(value) for value in sorted(values, key=str))}"
        for method, values in of_methods.items()
    )
    if len(set(of_runs.values()) - {None}) > 1:
        return [f"The trainings differ in {what}. {shown}."]
    return [f"It is not known whether the trainings differ in {what}. {shown}."]


def different_data(runs: Sequence[Run]) -> list[str]:
    """Notes where the trainings were prepared from different data, or where this is not known."""
    notes = []
    unknown = dict.fromkeys(run.method for run in runs if not run.data)
    if unknown and any(run.data for run in runs):
        notes.append(
            "It is not known whether the trainings were prepared from the same data: there is no "
            f"dataset_fingerprint.json of {' and '.join(unknown)}."
        )
    if len({run.data for run in runs if run.data}) > 1:
        notes.append(
            "The trainings were prepared from different states of the dataset (their dataset_fingerprint.json differ)."
        )
    return notes


def leaks(runs: Sequence[Run], splits: Splits) -> list[str]:
    """Notes on folds that the present splits do not have, and on validated cases that the splits list for training."""
    notes = []
    for fold in dict.fromkeys(run.fold for run in runs):
        if not fold.isdecimal() or not splits:
            continue
        if int(fold) >= len(splits):
            notes.append(
                f"Fold {fold} is none of the {len(splits)} in {SPLITS}: nnU-Net drew its cases at random, so its test "
                "cases are not those of the other folds."
            )
            continue
        train = set(splits[int(fold)]["train"])
        validated = [(run.method, train & set(run.predictions)) for run in runs if run.fold == fold]
        if cases := sorted(set().union(*(of_run for _, of_run in validated))):
            methods = " and ".join(dict.fromkeys(method for method, of_run in validated if of_run))
            notes.append(
                f"The present {SPLITS} lists {', '.join(cases)} for training of fold {fold}, but {methods} validated "
                "on them: either they were trained on, or the splits have changed since the training."
            )
    return notes


def read_splits(path: Path, folds: Sequence[str]) -> tuple[Splits | None, tuple[str, ...]]:
    """Read nnU-Net's splits.

    Args:
        path: ``splits_final.json``.
        folds: the folds that are compared; fold ``all`` needs no splits.

    Returns:
        The splits and no note; or None, with a note where a fold needs them, if the file is missing or damaged.
    """
    state = "damaged" if path.is_file() else "missing"
    try:
        splits = read_json(path)
        if is_splits(splits):
            return splits, ()
    except ValueError:
        pass
    if all(fold == "all" for fold in folds):
        return None, ()
    return None, (f"{path} is {state}, so it is not known which cases were trained on.",)
