"""The classes of a dataset, from nnU-Net's ``dataset.json``, and reading it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


@dataclass(frozen=True)
class Labels:
    """The classes of a dataset, as nnU-Net's evaluation treats them."""

    classes: Mapping[str, int | tuple[int, ...]]
    ignore_label: int | None

    @classmethod
    def of(
        cls, description: Mapping[str, Any], plans: Mapping[str, Any] | None = None, source: Path | str = "dataset.json"
    ) -> "Labels":
        """Read the classes of a ``dataset.json``; if it has regions, these are the classes.

        Args:
            plans: the model's ``plans.json``, which may name another label manager.
            source: the file, for messages.

        Raises:
            ValueError: nnU-Net cannot work with its labels.
        """
        try:
            manager = PlansManager(plans or {"label_manager": "LabelManager"}).get_label_manager(description)
            evaluated = manager.foreground_regions if manager.has_regions else manager.foreground_labels
            names = {as_region(value): name for name, value in description["labels"].items()}
            labels = {names[as_region(value)]: value for value in evaluated}
            classes = {name: value if isinstance(value, tuple) else int(value) for name, value in labels.items()}
        except Exception as error:  # nnU-Net raises many kinds, AssertionError among them
            reason = str(error) or type(error).__name__
            raise ValueError(f"nnU-Net cannot use the labels in {source} ({reason}); correct them") from error
        return cls(classes, manager.ignore_label)


def as_region(value: Any) -> tuple[int, ...]:
    """The labels of a class, whether it is one label or a region of several."""
    return tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)


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
