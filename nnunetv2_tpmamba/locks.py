"""One process at a time, on file systems that have locks."""

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some NFS and Lustre mounts


def acquire(path: Path, log: Callable[[str], None], waiting: str) -> AbstractContextManager:
    """Hold the lock file ``path`` until the returned context ends; a killed process holds none.

    Where the file system has no locks, nothing is held, and ``log`` is told: a lock file that stands for a lock would
    outlive a killed process.

    Args:
        waiting: what ``log`` is told while another process holds it.

    Raises:
        OSError: the file cannot be made.
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
