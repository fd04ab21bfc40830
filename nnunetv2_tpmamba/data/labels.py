"""The classes of a dataset: their names in ``dataset.json``, and their values as nnU-Net reads them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager, get_labelmanager_class_from_plans

MOST_GAPS = 10  # that a message names


@dataclass(frozen=True)
class Labels:
    """The classes of a dataset, as nnU-Net's training and evaluation treat them.

    Args:
        classes: the value of each class, or the values of its region; background is none.
        ignore_label: of voxels that do not count.
    """

    classes: Mapping[str, int | tuple[int, ...]]
    ignore_label: int | None

    @classmethod
    def of(
        cls, description: Mapping[str, Any], plans: Mapping[str, Any] | None = None, source: Path | str = "dataset.json"
    ) -> "Labels":
        """Read the classes of a ``dataset.json``; if it has regions, these are the classes.

        A value may be given as a number, as text ("1") or as a list of one, which is the same to nnU-Net.

        Args:
            plans: the model's ``plans.json``, which may name another label manager.
            source: the file, for messages.

        Raises:
            ValueError: nnU-Net cannot work with its labels.
        """
        try:
            given = {name: as_region(value) for name, value in description["labels"].items()}
            manager = manager_class(plans)(description["labels"], description.get("regions_class_order"))
            if manager.has_regions:
                check_regions(description)
            evaluated = manager.foreground_regions if manager.has_regions else manager.foreground_labels
            names: dict[tuple[int, ...], str] = {}
            for name, values in given.items():
                names[values] = f"{names[values]}, {name}" if values in names else name  # as one class, like nnU-Net
            classes = {names[as_region(value)]: value for value in evaluated}
            classes = {name: value if isinstance(value, tuple) else int(value) for name, value in classes.items()}
        except Exception as error:  # nnU-Net raises many kinds, AssertionError among them
            reason = str(error) or type(error).__name__
            raise ValueError(f"nnU-Net cannot use the labels in {source} ({reason}); correct them") from error
        return cls(classes, manager.ignore_label)

    @property
    def described(self) -> str:
        """The classes with their values, in words."""
        ignored = "" if self.ignore_label is None else f", ignore={self.ignore_label}"
        return ", ".join(f"{name}={value}" for name, value in self.classes.items()) + ignored

    def names_of_values(self) -> dict[int, str]:
        """A name for each value that a label map may hold, except background."""
        names = {value: name for name, value in self.classes.items() if isinstance(value, int)}
        for value in sorted({value for values in self.classes.values() for value in as_region(values)} - {0}):
            names.setdefault(value, f"label {value}")
        return names if self.ignore_label is None else names | {self.ignore_label: "ignore"}

    def held(self, label_map: np.ndarray) -> set[str]:
        """The classes that a label map holds a voxel of."""
        values = set(np.unique(label_map).tolist())
        return {name for name, value in self.classes.items() if values.intersection(as_region(value))}

    def check_trainable(self) -> None:
        """Raise ValueError if a network would need an output that no class has, for which nnU-Net makes none."""
        values = {value for value in self.classes.values() if isinstance(value, int)}
        if len(values) < len(self.classes):
            return  # each region has an output, whatever its values are
        values |= {0} if self.ignore_label is None else {0, self.ignore_label}
        most = len(values) + MOST_GAPS  # a damaged dataset.json may name a value of any size
        if gaps := sorted(set(range(min(max(values), most))) - values):
            missing = listed(gaps) + (", ..." if max(values) > most else "")
            raise ValueError(
                f"the labels in dataset.json have the values {listed(sorted(values))}, without {missing}: nnU-Net "
                "trains only labels that count up from 0 without a gap; change them in dataset.json and in the label "
                "maps (labelsTr), then plan again"
            )


def manager_class(plans: Mapping[str, Any] | None) -> type[LabelManager]:
    """The class of nnU-Net that the plans name, or else nnU-Net's own.

    Raises:
        ValueError: nnU-Net has no such class.
    """
    name = (plans or {}).get("label_manager", "LabelManager")
    found = find_label_manager(name) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, LabelManager)):
        raise ValueError(f"nnU-Net has no label_manager {name!r}, which the plans name")
    return found


@cache  # nnU-Net imports modules to find a class
def find_label_manager(name: str) -> Any:
    """What nnU-Net has under this name, be it a label manager or not; None if it has nothing."""
    return get_labelmanager_class_from_plans({"label_manager": name})


def as_region(value: Any) -> tuple[int, ...]:
    """The values of a class of ``dataset.json``, whether it is one or a region of several, and numbers or text.

    Raises:
        ValueError: a value is no whole number; nnU-Net would cut off its fraction.
    """
    values = value if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("a region holds no value")
    if any(not isinstance(v, int | float | str | np.integer) or (isinstance(v, float) and v != int(v)) for v in values):
        raise ValueError(f"{value!r} is no whole number")
    return tuple(int(v) for v in values)


def check_regions(description: Mapping[str, Any]) -> None:
    """Raise ValueError for values given as text where there are regions, which nnU-Net compares as they are given."""
    for name, value in description["labels"].items():
        if any(isinstance(v, str) for v in (value if isinstance(value, list | tuple) else (value,))):
            raise ValueError(f"{name!r} has the value {value!r}, a text; with regions nnU-Net needs numbers")


def listed(values: Collection[int]) -> str:
    """Numbers in a row, for a message."""
    return ", ".join(map(str, values))
