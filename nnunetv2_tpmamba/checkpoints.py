"""nnU-Net's checkpoint files: written whole or not at all, and read without running code."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

UNFINISHED = ".unfinished-"  # begins the name of a folder with a file that is being written


@contextlib.contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Yield a file name to write to; once that is done, the file takes the place of ``path`` in one step.

    Whatever ends the writing early, an error or SIGKILL, leaves the former ``path`` as it was. What SIGKILL leaves
    beside it in a folder ``.unfinished-*`` is removed by the next call for a file of the same name.
    """
    prefix = f"{UNFINISHED}{path.name}-"
    for leftover in path.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent, ignore_cleanup_errors=True) as scratch:
        unfinished = Path(scratch, path.name)
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())  # else a crash of the machine could leave the new name with old or no content
        os.replace(unfinished, path)


def load_without_code(path: Path) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net's, of which nothing but tensors, numbers, texts and lists is loaded.

    nnU-Net itself unpickles whatever is in the file.

    Raises:
        ValueError: it is damaged, or holds anything else, which could be code.
    """
    numbers: list[Any] = [
        np.dtype,
        *(type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64, np.int64, np.bool_)),
    ]
    scalar = np.float64(0).__reduce__()[0]
    try:
        with torch.serialization.safe_globals([*numbers, scalar]):
            checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # of many kinds, by where the damage is
        raise ValueError(
            f"{path} cannot be read as a checkpoint of nnU-Net: it is damaged, or holds more than tensors and numbers "
            f"({type(error).__name__})"
        ) from None  # torch's text advises to read it with weights_only=False
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), dict):
        raise ValueError(f"{path} is no checkpoint of nnU-Net: it holds no network_weights")
    return checkpoint
