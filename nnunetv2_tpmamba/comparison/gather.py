"""Find the trainings or the folders of predictions to compare, and note where they do not match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.data.cases import files_of_cases
from nnunetv2_tpmamba.data.dataset_json import check_description, read_description, read_json
from nnunetv2_tpmamba.data.few_shot import PROTOCOL, Fold
from nnunetv2_tpmamba.data.labels import Labels
from nnunetv2_tpmamba.data.splits import SPLITS

from .ensembles import turned_ensembles
from .fairness import Splits, read_splits, unfair
from .results import Group
from .runs import Run, begun_folds, model_folder, read_run, unfinished

ALL = "all"  # nnU-Net's fold that trains on all cases, and validates on them too


@dataclass(frozen=True)
class Gathered:
    """What is to be compared.

    Args:
        reference: folder of the truth.
        description: the content of ``dataset.json``.
        dataset_name: nnU-Net's; empty for plain folders.
        interim: a part of a study that is not finished, see :class:`~.results.Results`.
    """

    title: str
    runs: Sequence[Run]
    labels: Labels
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    reference: Path
    description: Mapping[str, Any]
    dataset_name: str = ""
    interim: bool = False


def gather_trainings(
    models: Mapping[str, tuple[str, str, str]], preprocessed: Path, results: Sequence[Path], folds: Sequence[str] | None
) -> Gathered:
    """Find the trainings of some models on one dataset.

    Args:
        models: trainer, plans and configuration of each method.
        preprocessed: nnU-Net's folder of the preprocessed dataset.
        results: nnU-Net's folder of the dataset's results; further ones hold repeats of the same trainings.
        folds: the folds to compare; None for all that every model has finished.

    Raises:
        ValueError: a model without results, a fold that was asked for and is not finished, a fold given twice, no fold
            that all models have finished, models of different classes, a repeat that was validated on other cases, a
            damaged or missing file of the dataset.
    """
    if folds is not None and len(set(folds)) < len(folds):
        raise ValueError(f"-f {' '.join(folds)}: give every fold once")
    places = {
        f"{method} in {place.parent}" if repeat > 1 else method: (method, repeat, model_folder(place, *model))
        for repeat, place in enumerate(results, 1)
        for method, model in models.items()
    }
    folders = {name: folder for name, (_, _, folder) in places.items()}
    description = read_description(preprocessed / "dataset.json")
    labels = {name: labels_of_model(folder) for name, folder in folders.items()}
    first, *others = labels
    for other in others:
        if labels[other] != labels[first]:
            raise ValueError(
                f"{first} was trained on the classes {labels[first].described}, {other} on {labels[other].described}; "
                "only models of the same classes can be compared"
            )
    chosen, left_out = (folds, ()) if folds is not None else finished_folds(folders)
    for name, folder in folders.items():
        for fold in chosen:
            if reason := unfinished(folder, fold):
                raise ValueError(f"fold {fold} of {name} {reason}: {folder / f'fold_{fold}'}")
    ending = description["file_ending"]
    runs = [
        read_run(method, folder, fold, ending, repeat) for method, repeat, folder in places.values() for fold in chosen
    ]
    check_repeats(runs)
    scored_on_training = (f"Fold {ALL} is scored on the cases it was trained on.",) if ALL in chosen else ()
    splits, on_splits = read_splits(preprocessed / SPLITS, chosen)
    groups, on_groups = groups_of(preprocessed / PROTOCOL, chosen, splits)
    on_ensembles = [note for place in results for note in turned_ensembles(place)]
    notes = (*left_out, *scored_on_training, *on_splits, *on_groups, *unfair(runs, splits), *on_ensembles)
    dataset, reference = preprocessed.name, preprocessed / "gt_segmentations"
    if not reference.is_dir():
        raise ValueError(f"{reference}, the folder of the truth, does not exist; preprocess the dataset again")
    title = f"{dataset}: {' and '.join(models)}" + (f", {len(results)} repeats" if len(results) > 1 else "")
    return Gathered(title, runs, labels[first], groups, notes, reference, description, dataset)


def check_repeats(runs: Sequence[Run]) -> None:
    """Raise ValueError if a repeat was validated on other cases than the first training of its method and fold."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        cases = set(first.setdefault((run.method, run.fold), run).predictions)
        if others := sorted(cases ^ set(run.predictions)):
            raise ValueError(
                f"repeat {run.repeat} of {run.method}, fold {run.fold}, and its first training were not validated on "
                f"the same cases: {', '.join(others)} only in one of them; a repeat is the same training on the same "
                "splits, so leave this folder of results out"
            )


def labels_of_model(folder: Path) -> Labels:
    """The classes that a model in nnU-Net's folder was trained on."""
    source = folder / "dataset.json"
    return Labels.of(read_description(source), read_json(folder / "plans.json"), source)


def finished_folds(folders: Mapping[str, Path]) -> tuple[list[str], tuple[str, ...]]:
    """The folds that all models have finished, ``all`` only if there is no other, and notes on the folds left out.

    Raises:
        ValueError: there is no such fold.
    """
    begun = {fold: None for folder in folders.values() for fold in begun_folds(folder)}
    common, notes = [], []
    for fold in begun:
        reasons = [f"{method} {why}" for method, folder in folders.items() if (why := unfinished(folder, fold))]
        if reasons:
            notes.append(f"Fold {fold} is left out: {'; '.join(reasons)}.")
        else:
            common.append(fold)
    if ALL in common and len(common) > 1:
        common.remove(ALL)
        notes.append(f"Fold {ALL} is left out: it is scored on the cases it was trained on (-f {ALL} shows it).")
    if not common:
        raise ValueError("there is no fold that all have finished:\n  " + "\n  ".join(notes or ["none was trained"]))
    return common, tuple(notes)


def groups_of(protocol: Path, folds: Sequence[str], splits: Splits | None) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """Group folds by their number of training cases where ``nnUNetv2_tpmamba fewshot`` wrote the splits.

    Without such splits all folds are one group. Fold ``all``, and a fold that the protocol does not know, are groups of
    their own.
    """
    table, notes = few_shot_table(protocol, splits)
    if not table:
        real = tuple(fold for fold in folds if fold != ALL)
        groups = [Group(f"fold {real[0]}" if len(real) == 1 else f"{len(real)} folds", real)] if real else []
        return (*groups, *(alone(fold) for fold in folds if fold == ALL)), notes
    sizes: dict[int, list[str]] = {}
    for fold in folds:
        if fold in table:
            sizes.setdefault(len(table[fold].train), []).append(fold)
    by_size = [
        Group(
            f"{size} training cases" if size > 1 else "1 training case",
            tuple(sizes[size]),
            size,
            {fold: draw for fold in sizes[size] if (draw := table[fold].draw) is not None},
        )
        for size in sorted(sizes, reverse=True)
    ]
    return (*by_size, *(alone(fold) for fold in folds if fold not in table)), notes


def alone(fold: str) -> Group:
    """A group of one fold."""
    return Group(f"fold {fold}", (fold,))


def few_shot_table(protocol: Path, splits: Splits | None) -> tuple[dict[str, Fold], tuple[str, ...]]:
    """What each fold of a few-shot protocol is; an empty table and a note if its splits are others."""
    if splits is None or not protocol.is_file():
        return {}, ()
    try:
        table = {str(values["fold"]): Fold.from_json(values) for values in read_json(protocol)["folds"]}
        if [fold.split() for fold in table.values()] == splits:
            return table, ()
    except (ValueError, KeyError, TypeError):
        pass
    return {}, (f"{PROTOCOL} does not belong to the present {SPLITS} and is not used.",)


def gather_folders(folders: Mapping[str, Path], reference: Path, description: Mapping[str, Any]) -> Gathered:
    """Take plain folders of predictions as runs of one fold.

    Args:
        folders: the folder of each method.
        reference: folder of the truth.
        description: ``dataset.json``.

    Raises:
        ValueError: a folder that does not exist, or a ``dataset.json`` that cannot be used.
    """
    check_description(description, "dataset.json")
    if not reference.is_dir():
        raise ValueError(f"--reference {reference} is no folder; give the folder of the truth")
    runs = []
    for method, folder in folders.items():
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give folders with predictions")
        runs.append(Run(method, "", files_of_cases(folder, description["file_ending"])))
    title = f"{' and '.join(folders)} against {reference.name}"
    return Gathered(title, runs, Labels.of(description), (Group("all cases", ("",)),), (), reference, description)
