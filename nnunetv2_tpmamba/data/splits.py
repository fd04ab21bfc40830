"""nnU-Net's ``splits_final.json``: read and made by one process at a time, and what it leaves out."""

import json
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from nnunetv2_tpmamba.files import acquire

from .manifest import name_some

SPLITS = "splits_final.json"
DEFAULT_FOLDS = 5  # of nnU-Net's default split

Log = Callable[[str], None]


def locked_split(folder: Path, log: Log) -> AbstractContextManager:
    """Hold the lock on a dataset's split: folds started together would all write it, or read it half-written.

    Raises:
        OSError: the folder cannot be written.
    """
    return acquire(folder / f"{SPLITS}.lock", log, "another process is reading or making the split; waiting")


@contextmanager
def folder_of_split(folder: Path, log: Log) -> Iterator[Path]:
    """Yield the folder in which nnU-Net may look for the split, and make it where there is none.

    That is the dataset's own, under its lock. Where it is read-only and has no split, it is a temporary one, in which
    every fold makes the same default split.

    Args:
        folder: the dataset's in nnUNet_preprocessed.
    """
    try:
        lock = locked_split(folder, log)
    except OSError:  # read-only: nobody writes
        if (folder / SPLITS).is_file():
            yield folder
            return
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        log(f"{folder} cannot be written, so the split is not kept; nnU-Net makes the same again")
    else:
        with lock:
            yield folder


def describe_gaps(folder: Path, cases: Collection[str]) -> str | None:
    """What a user should know of the split before training, if anything.

    Args:
        folder: the dataset's in nnUNet_preprocessed.
        cases: all training cases.
    """
    path = folder / SPLITS
    if not path.is_file():
        if len(cases) >= DEFAULT_FOLDS:
            return None
        return (
            f"only {len(cases)} of the {DEFAULT_FOLDS} training cases that nnU-Net's default split needs; train with "
            f"fold 'all' or write a split of your own to {path}"
        )
    try:
        used = {case for fold in json.loads(path.read_text()) for part in ("train", "val") for case in fold[part]}
    except (OSError, ValueError, KeyError, TypeError):  # being written, or damaged: nnU-Net will say so
        return None
    unused = sorted(set(cases) - used)
    if not unused:
        return None
    return (
        f"{len(unused)} of {len(cases)} cases are in no fold of {path}, so only fold 'all' trains on them: "
        f"{name_some(unused)}; if they were added later, move that file away, and nnU-Net makes a new split"
    )
