"""nnU-Net's ``splits_final.json``: one process at a time reads or makes it, and cases it leaves out are named."""

import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.files import acquire

from .cases import taken_for_labels
from .manifest import name_some

SPLITS = "splits_final.json"
DEFAULT_FOLDS = 5  # of nnU-Net's default split, which needs as many cases

Log = Callable[[str], None]


def locked_split(folder: Path, log: Log) -> AbstractContextManager:
    """Hold the lock on a dataset's split, because folds started together would all write it, or read half of it.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        log: receives what the user should know.

    Raises:
        OSError: the folder cannot be written.
    """
    return acquire(folder / f"{SPLITS}.lock", log, "another process is reading or making the split; waiting")


@contextmanager
def folder_of_split(folder: Path, log: Log) -> Iterator[Path]:
    """Yield the folder in which nnU-Net may read the split, or make it if there is none.

    That is the dataset's own folder, whose split is locked meanwhile. If that folder is read-only and has no split, it
    is a temporary folder, in which every fold makes the same default split.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        log: receives what the user should know.
    """
    try:
        lock = locked_split(folder, log)
    except OSError:  # the folder is read-only, so nobody writes the split
        if (folder / SPLITS).is_file():
            yield folder
            return
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        log(f"{folder} cannot be written, so the split is not kept; nnU-Net makes the same again")
    else:
        with lock:
            yield folder


def check_fold(folder: Path, fold: int | str, cases: Collection[str], ending: str) -> None:
    """Check that a fold can be trained and validated on these cases.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        fold: its number, or ``all``.
        cases: all training cases.
        ending: of the files' names, which is no part of a case's name.

    Raises:
        ValueError: the split is damaged, or names cases that there are not, or none; or nnU-Net cannot make a split.
    """
    path = folder / SPLITS
    if fold == "all":
        return
    if not path.is_file():
        if too_few := describe_gaps(folder, cases):
            raise ValueError(f"fold {fold}: {too_few}")
        return
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); correct it, or remove it and nnU-Net makes one") from error
    if not is_splits(splits):
        raise ValueError(
            f'{path} is no list of folds such as {{"train": ["case_1", ...], "val": ["case_2", ...]}}; correct it, or '
            "remove it and nnU-Net makes one"
        )
    if int(fold) >= len(splits):
        return  # nnU-Net draws one
    for part in ("train", "val"):
        names = splits[int(fold)][part]
        if not names:
            raise ValueError(f"fold {fold} of {path} has no case in {part!r}; nnU-Net needs one at least")
        if unknown := [name for name in names if name not in cases]:
            first, likely = unknown[0], re.sub(rf"(_\d{{4}})?{re.escape(ending)}$", "", unknown[0])
            advice = f"write {likely} for {first}" if likely in cases else f"the cases are {name_some(sorted(cases))}"
            raise ValueError(f"fold {fold} of {path} names cases that there are not: {name_some(unknown)}; {advice}")


def is_splits(value: Any) -> bool:
    """Whether a JSON value has the form of nnU-Net's splits: for each fold, names of cases to train and validate on."""
    return isinstance(value, list) and all(
        isinstance(fold, dict)
        and all(
            isinstance(fold.get(part), list) and all(isinstance(case, str) for case in fold[part])
            for part in ("train", "val")
        )
        for fold in value
    )


def describe_gaps(folder: Path, cases: Collection[str]) -> str | None:
    """Say which cases no fold trains on, or that nnU-Net cannot make its default split; None if all is well.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        cases: all training cases.
    """
    path = folder / SPLITS
    if not path.is_file():
        split = len(cases) - len(taken_for_labels(cases))
        if split >= DEFAULT_FOLDS:
            return None
        return (
            f"only {split} of the {DEFAULT_FOLDS} training cases that nnU-Net's default split needs; train with "
            f"fold 'all' or write a split of your own to {path}"
        )
    try:
        used = {case for fold in json.loads(path.read_text()) for part in ("train", "val") for case in fold[part]}
    except (OSError, ValueError, KeyError, TypeError):  # it is being written, or damaged, which nnU-Net will report
        return None
    unused = sorted(set(cases) - used)
    if not unused:
        return None
    return (
        f"{len(unused)} of {len(cases)} cases are in no fold of {path}, so only fold 'all' trains on them: "
        f"{name_some(unused)}; if they were added later, move that file away, and nnU-Net makes a new split"
    )
