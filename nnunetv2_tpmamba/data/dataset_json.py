"""Reading and checking nnU-Net's ``dataset.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_description(path: Path) -> dict[str, Any]:
    """Read a ``dataset.json``.

    Raises:
        ValueError: the file is missing or damaged, or does not name the classes or how the names of files end.
    """
    description = read_json(path)
    check_description(description, path)
    return description


def check_description(description: Any, source: Path | str) -> None:
    """Raise ValueError for a ``dataset.json`` that does not name the classes or how the names of files end."""
    if not isinstance(description, Mapping):
        raise ValueError(f"{source} holds no object {{...}}; give a dataset.json as nnU-Net has it")
    required: dict[str, type] = {"labels": dict, "file_ending": str}
    if "channel_names" in description:  # predictions can be compared without them
        required["channel_names"] = dict
    for key, kind in required.items():
        if not isinstance(description.get(key), kind) or not description[key]:
            state = "no usable" if key in description else "no"
            what = "an object {...}" if kind is dict else 'a text such as ".nii.gz"'
            raise ValueError(f"{source} has {state} {key!r}, which is {what}; give a dataset.json as nnU-Net has it")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is missing or damaged; the message names it.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
