"""How far all trainings of a study are: as a table of rows and folds, and as JSON."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from nnunetv2_tpmamba.data.dataset_json import read_description
from nnunetv2_tpmamba.data.few_shot import PROTOCOL
from nnunetv2_tpmamba.data.folders import find_results
from nnunetv2_tpmamba.data.splits import SPLITS

from .few_shot_splits import holds_splits
from .plan import Study, Training, read_study
from .progress import Progress, State, read_progress

Paint = Callable[[str, State], str]

LEGEND: dict[State, tuple[str, str]] = {
    "finished": ("done", "finished"),
    "running": ("42%", "running (val: validating)"),
    "stopped": ("stop", "stopped"),
    "other cases": ("else", "on other cases"),
    "not started": (".", "not started"),
}
PREFIX = "nnUNetTrainer"
CASES = "training cases"
WIDTH_OF_FOLD = 7  # characters: a cell and what separates it from the next


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Args:
        now: when it was read, in seconds since 1970.
        missing: what of the study itself was deleted or changed, as sentences.
    """

    study: Study
    trainings: tuple[tuple[Training, Progress], ...]
    now: float
    missing: tuple[str, ...]


def read_status(folder: Path, now: float) -> Status:
    """Read how far the study of a dataset is.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        now: seconds since 1970.

    Raises:
        FileNotFoundError: no study was planned.
        OSError: nnUNet_results is not set.
        ValueError: ``study.json`` or ``dataset.json`` is damaged.
    """
    study = read_study(folder)
    return Status(study, tuple(_read_all(folder, study, now)), now, tuple(_missing(folder, study)))


def _read_all(folder: Path, study: Study, now: float) -> list[tuple[Training, Progress]]:
    results = find_results()
    ending = read_description(folder / "dataset.json")["file_ending"]
    return [
        (training, read_progress(results / study.folder(training), training.fold, ending, now))
        for training in study.trainings()
    ]


def check_results(folder: Path, study: Study) -> None:
    """Refuse a study whose trainings were partly made on other cases.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.

    Raises:
        FileExistsError: there are such trainings.
        OSError: nnUNet_results is not set.
        ValueError: ``dataset.json`` is damaged.
    """
    others = [
        f"{study.folder(training)} ({progress.message})"
        for training, progress in _read_all(folder, study, now=0)
        if progress.state == "other cases"
    ]
    if others:
        raise FileExistsError(
            f"there are results on other cases than the study's: {', '.join(others)}; move these elsewhere, or copy "
            "the dataset to another id. Nothing was changed"
        )


def as_json(status: Status) -> dict[str, Any]:
    """Return the status as plain values; times are seconds, or ISO 8601 with the time zone."""
    return {
        "dataset": status.study.dataset,
        "read": _iso(status.now),
        "missing": list(status.missing),
        "counts": count(status),
        "trainings": [
            {
                "row": training.row,
                "fold": training.fold.fold,
                "repeat": training.repeat,
                "state": progress.state,
                "epochs_ended": progress.ended,
                "epochs": progress.epochs,
                "epoch_seconds": progress.epoch_seconds,
                "validating": progress.validating,
                "last_sign": None if progress.last_sign is None else _iso(progress.last_sign),
                "seconds_left": progress.seconds_left(status.now),
                "message": progress.message,
                "folder": str(status.study.folder(training)),
            }
            for training, progress in status.trainings
        ],
    }


def count(status: Status) -> dict[State, int]:
    """How many trainings are in each state."""
    counts = Counter(progress.state for _, progress in status.trainings)
    return {state: counts[state] for state in LEGEND}


def as_text(status: Status, paint: Paint, width: int) -> str:
    """Return the table of rows and folds, a line for each training that runs or has stopped, and a legend.

    Args:
        paint: gives a text the colour of a state.
        width: of the terminal, in characters; further folds come in a table below.
    """
    study = status.study
    parts = []
    for repeat in range(1, study.repeats + 1):
        title = [f"Repeat {repeat} of {study.repeats}"] if study.repeats > 1 else []
        parts.append("\n".join([*title, *_tables(status, repeat, paint, width)]))
    for state, heading in (("running", "Running"), ("stopped", "Stopped"), ("other cases", "Trained on other cases")):
        told = [_line(each, status) for each in status.trainings if each[1].state == state]
        if told:
            parts.append("\n".join([f"{heading}:", *(f"  {line}" for line in told)]))
    counts = ", ".join(f"{number} {state}" for state, number in count(status).items() if number)
    legend = ", ".join(f"{paint(symbol, state)} {meaning}" for state, (symbol, meaning) in LEGEND.items())
    parts.append(f"{len(status.trainings)} trainings: {counts}\n{legend}")
    return "\n\n".join([*parts, *status.missing])


def _tables(status: Status, repeat: int, paint: Paint, width: int) -> list[str]:
    """The table of one repeat, in as many parts as the width asks for."""
    rows, folds = status.study.rows, status.study.folds
    cells = {(each.row, each.fold.fold): progress for each, progress in status.trainings if each.repeat == repeat}
    of_rows = max(map(len, [CASES, *map(_short, rows)]))
    per_table = max(1, (width - of_rows) // WIDTH_OF_FOLD)
    tables = []
    for start in range(0, len(folds), per_table):
        part = folds[start : start + per_table]
        lines = [["fold", *(fold.fold for fold in part)], [CASES, *(len(fold.train) for fold in part)]]
        lines += [[_short(row), *(_cell(cells[row, fold.fold], paint) for fold in part)] for row in rows]
        tables.append(tabulate(lines, tablefmt="plain", disable_numparse=True))
    return tables


def _cell(progress: Progress, paint: Paint) -> str:
    symbol = LEGEND[progress.state][0]
    if progress.state == "running":
        symbol = f"{progress.ended / progress.epochs:.0%}" if progress.epochs else f"e{progress.ended}"
        symbol = "val" if progress.validating else symbol
    return paint(symbol, progress.state)


def _line(each: tuple[Training, Progress], status: Status) -> str:
    training, progress = each
    name = f"{_short(training.row)}, fold {training.fold.fold}"
    name += f", repeat {training.repeat}" if status.study.repeats > 1 else ""
    said = [f"{progress.ended} of {'?' if progress.epochs is None else progress.epochs} epochs"]
    if progress.last_sign is not None:
        said.append(f"last sign of life {duration(status.now - progress.last_sign)} ago")
    if (left := progress.seconds_left(status.now)) is not None:
        said.append(f"about {duration(left)} to go")
    between_epochs = progress.state == "running" and progress.ended and not progress.validating
    if progress.message and not between_epochs:  # there the log holds losses and learning rates
        said.append(progress.message)
    return f"{name}: {', '.join(said)}"


def duration(seconds: float) -> str:
    """Write a duration in its two largest units, such as "3 h 20 min"."""
    minutes = round(max(0.0, seconds) / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def _short(row: str) -> str:
    return row.removeprefix(PREFIX) or row


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _missing(folder: Path, study: Study) -> Iterator[str]:
    """Say what of the study itself was deleted or changed."""
    again = "give the command that planned the study again"
    if not holds_splits(folder / SPLITS, study.folds):
        state = "does not hold the folds of the study" if (folder / SPLITS).exists() else "is missing"
        yield f"{folder / SPLITS} {state}, so a training would use other cases; {again}"
    if not (folder / PROTOCOL).is_file():
        yield f"{folder / PROTOCOL} is missing, by which results are grouped; {again}"
    if not (folder / f"{study.plans}.json").is_file():
        yield (
            f"{folder / study.plans}.json is missing, which every training reads; plan the dataset again with "
            f"nnUNetv2_plan_and_preprocess -d {int(folder.name[7:10])}"
        )
