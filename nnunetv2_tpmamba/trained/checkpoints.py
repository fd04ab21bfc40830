"""Reading nnU-Net's checkpoint files without running code."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

scalar = np.float64(0).__reduce__()[0]


def scalar_of_the_other_numpy(*args: Any) -> Any:
    """NumPy 1 and 2 name the function that makes a scalar differently."""
    return scalar(*args)


scalar_of_the_other_numpy.__module__ = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy.core.multiarray": "numpy._core.multiarray",
}[scalar.__module__]
scalar_of_the_other_numpy.__name__ = scalar_of_the_other_numpy.__qualname__ = scalar.__name__


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
    try:
        with torch.serialization.safe_globals([*numbers, scalar, scalar_of_the_other_numpy]):
            checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # of many kinds, by where the damage is
        raise ValueError(
            f"{path} cannot be read as a checkpoint of nnU-Net: it is damaged, or holds more than tensors and numbers "
            f"({type(error).__name__})"
        ) from None  # torch's text advises to read it with weights_only=False
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), dict):
        raise ValueError(f"{path} is no checkpoint of nnU-Net: it holds no network_weights")
    return checkpoint
