"""Files that appear whole or not at all, their SHA-256, locks that one process holds, and where a command is."""

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from torch import Tensor

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what some NFS and Lustre mounts answer


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Yield a name to write a file to, or to make a folder of, which becomes ``path`` in one step afterwards.

    An error or SIGKILL that ends the writing early leaves the former ``path`` as it was. SIGKILL also leaves a folder
    ``.unfinished-*`` beside it, which the next call for the same ``path`` removes; so only one process at a time should
    write a path.
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
    """Say that ``path`` could not be written, why, and how much space is left beside it."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    free = shutil.disk_usage(path.absolute().parent).free / 1e6
    return f"{path} could not be written ({reason}); {free:.0f} MB are free there"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_tensors(tensors: Mapping[str, "Tensor"], text: str = "") -> str:
    """SHA-256 of a text and of the names, shapes and float32 values of tensors, in the order of their names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()


def acquire(path: Path, log: Callable[[str], None], waiting: str) -> AbstractContextManager:
    """Hold the lock file ``path`` until the returned context ends; when a process is killed, its lock is free.

    Where the file system has no locks, nothing is held, and ``log`` is told so. A file whose mere existence means
    "locked" is no way out, because it would outlive a killed process.

    Args:
        log: receives what the user should know.
        waiting: what ``log`` is told while another process holds the lock.

    Raises:
        OSError: the lock file cannot be made.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            log(f"{waiting} (it holds {path})")
            return lock.acquire(poll_interval=0.5)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log(
            f"the file system of {path.parent} has no locks ({error.strerror}); start nothing else on this dataset "
            "until its data and its split are made"
        )
        return nullcontext()


def find_program(name: str) -> str:
    """The console command installed beside this Python, else the one in the PATH.

    Raises:
        FileNotFoundError: there is no such command in either place.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"the command {name} is neither in {beside} nor in the PATH; is nnU-Net v2 installed?")
    return found
