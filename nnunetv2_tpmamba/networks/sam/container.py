"""Read a file of tensors without running code from it: safetensors, or what ``torch.save`` wrote."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from .errors import MissingSamFileError, UnusableSamFileError
from .models import SamModel

NO_DATA = {"builtins", "nt", "os", "posix", "runpy", "shutil", "subprocess", "sys"}
"""Modules whose functions no training leaves in a checkpoint, so that nobody is told how to load them."""


def read_container(path: Path, needed: SamModel | None) -> dict[str, Any]:
    """Read what a file holds, by its content and not by its name, on the CPU.

    Args:
        path: the file.
        needed: whose file the messages shall advise to get; None for an encoder whose sizes are none of SAM's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of tensors, is damaged, or holds more than tensors, numbers, texts, lists and dicts.
    """
    if path.is_dir():
        raise UnusableSamFileError(f"{path} is a folder", needed)
    if not path.exists():
        raise MissingSamFileError(f"{path} does not exist", needed)
    with path.open("rb") as file:
        head = file.read(24)
    is_safetensors = head[8:9] == b"{"  # a JSON header follows its length
    is_torch = head.startswith((b"PK\x03\x04", b"\x80"))  # a zip archive; before torch 1.6 a bare pickle
    if not is_safetensors and not is_torch:
        state = f"is no checkpoint (it begins with {head!r})" if head else "is empty"
        raise UnusableSamFileError(f"{path} {state}", needed)
    try:
        if is_safetensors:
            loaded = safetensors.torch.load_file(path)
        else:
            if head.startswith(b"PK"):
                _check_unpacks_to_itself(path)
            with path.open("rb") as file:  # given a path, torch goes by its extension
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # OSError, EOFError, KeyError, RuntimeError and more, depending on where the damage is
        # The new error hides its cause, because torch's text advises to load with weights_only=False.
        if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL ([\w.]+)", str(error))):
            raise _refuse_objects(path, found[1], needed) from None
        size = f"{path.stat().st_size} bytes"
        raise UnusableSamFileError(
            f"{path} ({size}) is truncated or damaged ({type(error).__name__}); delete it", needed
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise UnusableSamFileError(f"{path} holds no state dict", needed)
    return loaded


def _refuse_objects(path: Path, name: str, needed: SamModel | None) -> UnusableSamFileError:
    """Refuse a pickle with a class or function in it, and say how to save the weights alone if a training wrote it."""
    reason = f"{path} is refused: besides tensors it holds {name}, and reading that could run code"
    if name.split(".")[0] in NO_DATA:
        return UnusableSamFileError(reason, needed)
    script = (
        "import torch",
        f'content = torch.load({str(path)!r}, "cpu", weights_only=False)  # runs code from the file',
        f'torch.save(content["model"], "{path.stem}_weights.pth")  # or "model_state", "state_dict": where weights are',
    )
    return UnusableSamFileError(
        reason,
        needed,
        "If a training whose source you trust wrote this file, such as one that saves its optimizer, save the weights "
        "alone, where that training runs, with\n" + "\n".join(f"    {line}" for line in script),
    )


def _check_unpacks_to_itself(path: Path) -> None:
    """Refuse a small zip file that would fill the memory: torch stores every tensor once, and uncompressed."""
    with zipfile.ZipFile(path) as archive:
        if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile(f"{path} unpacks to more than it holds")
