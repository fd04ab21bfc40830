"""What of a study can be compared before all of it is finished."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunetv2_tpmamba.comparison.gather import Gathered, gather_trainings
from nnunetv2_tpmamba.data.folders import results_of_repeat

from .plan import Study, Training
from .status import read_status


@dataclass(frozen=True)
class Finished:
    """Trainings of which every row has every fold, as often as every other: only such rows can be compared.

    Args:
        rows, folds: names, in the order of the study.
        repeats: how often every one of these trainings is finished; they are the first repeats of the study.
        left_out: what the study has besides, as sentences.
    """

    rows: tuple[str, ...]
    folds: tuple[str, ...]
    repeats: int
    left_out: tuple[str, ...]


def gather_finished(folder: Path, now: float) -> Gathered:
    """Gather the largest finished part of the study of a dataset; its notes name the rest.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        now: seconds since 1970.

    Raises:
        FileNotFoundError: no study was planned.
        OSError: nnUNet_results is not set.
        ValueError: no training is finished, or a file of the study, the dataset or a training is damaged.
    """
    status = read_status(folder, now)
    study = status.study
    part = largest_finished(
        study, [training for training, progress in status.trainings if progress.state == "finished"]
    )
    gathered = gather_trainings(
        {row: (row, study.plans, study.configuration) for row in part.rows},
        folder,
        [results_of_repeat(repeat) / study.dataset for repeat in range(1, part.repeats + 1)],
        part.folds,
    )
    size = f"{len(part.rows)} of {len(study.rows)} rows, {len(part.folds)} of {len(study.folds)} folds"
    size += f", {part.repeats} of {study.repeats} repeats" if study.repeats > 1 else ""
    notes = (*part.left_out, *status.missing, *gathered.notes)
    return replace(gathered, title=f"{study.dataset}: {size}", notes=notes, interim=bool(part.left_out))


def largest_finished(study: Study, finished: Collection[Training]) -> Finished:
    """Return the part of a study that is finished as a whole and has the most trainings, or else the most rows.

    Raises:
        ValueError: no training is finished.
    """
    if not finished:
        raise ValueError("no training of the study is finished; nnUNetv2_tpmamba study status shows how far they are")
    folds = [str(fold.fold) for fold in study.folds]
    keys = {(each.row, str(each.fold.fold), each.repeat) for each in finished}

    def folds_of(row: str, repeats: int) -> frozenset[str]:
        return frozenset(fold for fold in folds if all((row, fold, 1 + i) in keys for i in range(repeats)))

    blocks = []
    for repeats in range(1, study.repeats + 1):
        of_row = {row: folds_of(row, repeats) for row in study.rows}
        for common in intersections(list(of_row.values())):
            rows = tuple(row for row in study.rows if common <= of_row[row])
            blocks.append((rows, tuple(fold for fold in folds if fold in common), repeats))
    if not blocks:
        raise ValueError("of no training of the study the first repeat is finished, which a report begins with")
    rows, chosen, repeats = max(blocks, key=lambda block: (len(block[0]) * len(block[1]) * block[2], len(block[0])))
    rest = [
        each
        for each in study.trainings()
        if not (each.row in rows and str(each.fold.fold) in chosen and each.repeat <= repeats)
    ]
    return Finished(rows, chosen, repeats, tuple(_sentences(rest, finished)))


def intersections(sets: Sequence[frozenset[str]]) -> set[frozenset[str]]:
    """All intersections of one or more sets, but for the empty one."""
    found: set[frozenset[str]] = set()
    for each in sets:
        found |= {each} | {each & other for other in found}
    return found - {frozenset()}


def _sentences(rest: Sequence[Training], finished: Collection[Training]) -> list[str]:
    """Say which trainings are left out, and why."""
    reasons = {False: "not finished", True: "finished, but other rows have not finished as much"}
    return [
        f"Left out, because {reason}: {_named(trainings)}."
        for done, reason in reasons.items()
        if (trainings := [each for each in rest if (each in finished) == done])
    ]


def _named(trainings: Sequence[Training]) -> str:
    folds: dict[tuple[str, int], list[str]] = {}
    for each in trainings:
        folds.setdefault((each.row, each.repeat), []).append(str(each.fold.fold))
    return "; ".join(
        f"{row} fold{'s' * (len(names) > 1)} {', '.join(names)}" + (f" of repeat {repeat}" if repeat > 1 else "")
        for (row, repeat), names in folds.items()
    )
