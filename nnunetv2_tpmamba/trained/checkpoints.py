"""Read nnU-Net's checkpoint files without running the code that a pickle can hold."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

# A pickled NumPy number is a call of NumPy's function "scalar", which the pickle names by its module. That module is
# called numpy.core.multiarray in NumPy 1 and numpy._core.multiarray in NumPy 2, and a checkpoint can come from either.
# torch compares the name in the pickle with the __module__ and __name__ of the functions that we allow. So beside the
# function of the NumPy installed here, we allow one that bears the name it has in the other NumPy.
scalar = np.float64(0).__reduce__()[0]


def scalar_of_the_other_numpy(*args: Any) -> Any:
    """Make a NumPy number for a pickle that was written with the other major version of NumPy."""
    return scalar(*args)


scalar_of_the_other_numpy.__module__ = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy.core.multiarray": "numpy._core.multiarray",
}[scalar.__module__]
scalar_of_the_other_numpy.__name__ = scalar_of_the_other_numpy.__qualname__ = scalar.__name__


def load_without_code(path: Path) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net's that holds only tensors, numbers, texts, lists and dicts.

    nnU-Net itself unpickles whatever is in the file, and so runs code that somebody put there.

    Raises:
        ValueError: the file is damaged, or holds something else, which could be code.
    """
    numbers: list[Any] = [
        np.dtype,
        *(type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64, np.int64, np.bool_)),
    ]
    try:
        with torch.serialization.safe_globals([*numbers, scalar, scalar_of_the_other_numpy]):
            checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # its kind depends on where the damage is
        raise ValueError(
            f"{path} cannot be read as a checkpoint of nnU-Net: it is damaged, or holds more than tensors and numbers "
            f"({type(error).__name__})"
        ) from None  # torch's own text advises weights_only=False, which would run the code
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), dict):
        raise ValueError(f"{path} is no checkpoint of nnU-Net: it holds no network_weights")
    return checkpoint
