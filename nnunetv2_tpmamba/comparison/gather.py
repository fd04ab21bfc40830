"""Find what trainings or folders of predictions have in common, and say what they do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunetv2_tpmamba.fewshot import Fold

from .cache import measure_all
from .metrics import Pair
from .results import Group, Results
from .runs import Labels, Run, files_of_cases, model_folder, read_json, read_run, trained_folds, unfinished

PROTOCOL = "fewshot.json"


@dataclass(frozen=True)
class Gathered:
    """What is to be compared.

    Args:
        reference: folder of the truth.
        description: ``dataset.json``.
        dataset_name: nnU-Net's; empty for plain folders.
    """

    title: str
    runs: Sequence[Run]
    labels: Labels
    groups: tuple[Group, ...]
    notes: list[str]
    reference: Path
    description: Mapping[str, Any]
    dataset_name: str = ""


def gather_trainings(
    models: Mapping[str, tuple[str, str, str]], preprocessed: Path, results: Path, folds: Sequence[str] | None
) -> Gathered:
    """The runs of some models on one dataset.

    Args:
        models: trainer, plans and configuration of each method.
        folds: None: those that all models have finished.

    Raises:
        ValueError: no results, an unfinished fold that was asked for, no common fold, different classes.
    """
    notes: list[str] = []
    folders = {method: model_folder(results, *model) for method, model in models.items()}
    description = read_json(preprocessed / "dataset.json")
    labels = {
        method: Labels.of(read_json(folder / "dataset.json"), read_json(folder / "plans.json"))
        for method, folder in folders.items()
    }
    first, *others = labels
    for other in others:
        if labels[other] != labels[first]:
            raise ValueError(
                f"{first} was trained on the classes {named(labels[first])}, {other} on {named(labels[other])}; only "
                "models of the same classes can be compared"
            )
    chosen = folds if folds is not None else finished_folds(folders, notes)
    for method, folder in folders.items():
        for fold in chosen:
            if reason := unfinished(folder, fold):
                raise ValueError(f"fold {fold} of {method} {reason}: {folder / f'fold_{fold}'}")
    ending = description["file_ending"]
    runs = [read_run(method, folder, fold, ending) for method, folder in folders.items() for fold in chosen]
    groups = groups_of(preprocessed, chosen, notes)
    name, reference = preprocessed.name, preprocessed / "gt_segmentations"
    title = f"{name}: {' and '.join(folders)}"
    return Gathered(title, runs, labels[first], groups, notes, reference, description, name)


def finished_folds(folders: Mapping[str, Path], notes: list[str]) -> list[str]:
    """Those that all have finished; the others are named in the notes."""
    begun = {fold: None for folder in folders.values() for fold in trained_folds(folder)}
    common = []
    for fold in begun:
        reasons = [f"{method}: {why}" for method, folder in folders.items() if (why := unfinished(folder, fold))]
        if reasons:
            notes.append(f"Fold {fold} is left out. {'; '.join(reasons)}.")
        else:
            common.append(fold)
    if not common:
        raise ValueError("there is no fold that all have finished:\n  " + "\n  ".join(notes or ["none was trained"]))
    return common


def groups_of(preprocessed: Path, folds: Sequence[str], notes: list[str]) -> tuple[Group, ...]:
    """By number of training cases where ``nnUNetv2_tpmamba fewshot`` wrote the splits, else all folds in one."""
    together = (Group(f"fold {folds[0]}" if len(folds) == 1 else f"{len(folds)} folds", tuple(folds)),)
    splits, protocol = preprocessed / "splits_final.json", preprocessed / PROTOCOL
    if not splits.is_file():
        if any(fold != "all" for fold in folds):
            notes.append(f"{splits} is missing, so it is not known which cases were trained on.")
        return together
    if not protocol.is_file():
        return together
    try:
        table = {str(values["fold"]): Fold.from_json(values) for values in read_json(protocol)["folds"]}
        belongs = [fold.split() for fold in table.values()] == read_json(splits)
    except (ValueError, KeyError, TypeError):
        belongs = False
    if not belongs:
        notes.append(f"{PROTOCOL} does not belong to the present splits_final.json and is not used.")
    if not belongs or not set(folds) <= set(table):
        return together
    sizes: dict[int, list[str]] = {}
    for fold in folds:
        sizes.setdefault(len(table[fold].train), []).append(fold)
    return tuple(
        Group(f"{size} training cases" if size > 1 else "1 training case", tuple(sizes[size]), size)
        for size in sorted(sizes, reverse=True)
    )


def gather_folders(folders: Mapping[str, Path], reference: Path, description: Mapping[str, Any]) -> Gathered:
    """Plain folders of predictions as runs of one fold."""
    runs = []
    for method, folder in folders.items():
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; name folders with predictions")
        runs.append(Run(method, "", files_of_cases(folder, description["file_ending"])))
    title = f"{' and '.join(folders)} against {reference.name}"
    return Gathered(title, runs, Labels.of(description), (Group("all cases", ("",)),), [], reference, description)


def measure(gathered: Gathered, tolerance: Mapping[str, float], processes: int, cache: Path) -> Results:
    """Measure the cases that the runs of each fold share and whose truth is known."""
    runs, notes, reference = gathered.runs, [*gathered.notes], gathered.reference
    methods = tuple(dict.fromkeys(run.method for run in runs))
    by_fold: dict[str, list[Run]] = {}
    for run in runs:
        by_fold.setdefault(run.fold, []).append(run)
    ending = gathered.description["file_ending"]
    truths = files_of_cases(reference, ending)
    jobs = []
    for fold, of_fold in by_fold.items():
        place = f" of fold {fold}" if fold else ""
        common = set.intersection(*(set(run.predictions) for run in of_fold))
        for run in of_fold:
            if extra := sorted(set(run.predictions) - common):
                notes.append(f"Only {run.method} has the cases {', '.join(extra)}{place}; they are left out.")
        if untrue := sorted(common - set(truths)):
            notes.append(f"{reference} has no truth for {', '.join(untrue)}{place}; they are left out.")
        cases = sorted(common & set(truths))
        if not cases:
            raise ValueError(f"there is no case{place} that all have predicted and {reference} has the truth of")
        jobs += [(run, case) for run in of_fold for case in cases]
    reader = determine_reader_writer_from_dataset_json(
        dict(gathered.description), str(truths[jobs[0][1]]), verbose=False
    )
    pairs = [
        Pair(
            truths[case],
            run.predictions[case],
            gathered.labels.classes,
            gathered.labels.ignore_label,
            tolerance,
            reader,
        )
        for run, case in jobs
    ]
    scores: dict[tuple[str, str], dict] = {}
    for (run, case), measured_scores in zip(jobs, measure_all(pairs, processes, cache), strict=True):
        scores.setdefault((run.method, run.fold), {})[case] = measured_scores
    notes = [*notes, *differences(runs, methods)]
    by_key = {(run.method, run.fold): run for run in runs}
    classes = tuple(gathered.labels.classes)
    return Results(gathered.title, methods, classes, tolerance, gathered.groups, by_key, scores, notes)


def differences(runs: Sequence[Run], methods: Sequence[str]) -> list[str]:
    """What makes a comparison of these trainings unfair, or is not known."""
    notes = []
    epochs = {method: sorted({run.cost.epochs for run in runs if run.method == method}, key=str) for method in methods}
    if len({tuple(numbers) for numbers in epochs.values()}) > 1 or any(len(numbers) > 1 for numbers in epochs.values()):
        shown = "; ".join(f"{m}: {', '.join('unknown' if n is None else str(n) for n in v)}" for m, v in epochs.items())
        notes.append(f"The trainings differ in epochs. {shown}.")
    if len({run.data for run in runs if run.data}) > 1:
        notes.append(
            "The trainings were prepared from different states of the dataset (their dataset_fingerprint.json differ)."
        )
    return notes


def named(labels: Labels) -> str:
    ignored = "" if labels.ignore_label is None else f", ignore={labels.ignore_label}"
    return ", ".join(f"{name}={value}" for name, value in labels.classes.items()) + ignored
