"""Files and folders that are there whole or not at all, and what they hold."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Yield a name to write a file to, or make a folder of; once that is done, it becomes ``path`` in one step.

    Whatever ends the writing early, an error or SIGKILL, leaves the former ``path`` as it was. What SIGKILL leaves
    beside it, a folder ``.unfinished-*``, is removed by the next call for the same ``path``; so only one process at a
    time should write it.
    """
    prefix = f".unfinished-{path.name}-"
    for leftover in path.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent, ignore_cleanup_errors=True) as scratch:
        unfinished = Path(scratch, path.name)
        yield unfinished
        if unfinished.is_file():
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())  # else a crash of the machine could leave the new name with old or no content
        os.replace(unfinished, path)


def unwritten(path: Path, error: BaseException) -> str:
    """In words that ``path`` could not be written, why, and how much space is left."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    free = shutil.disk_usage(path.absolute().parent).free / 1e6
    return f"{path} could not be written ({reason}); {free:.0f} MB are free there"


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
