"""The entries that derive_plans reads from a plans file and from dataset.json, and what each must look like."""

import inspect
import reprlib
from collections.abc import Callable
from typing import Any

from nnunetv2.preprocessing.resampling.utils import recursive_find_resampling_fn_by_name

RESAMPLED = ("data", "seg", "probabilities")
LARGEST = 1e6  # mm or voxels; a plans file with a larger size is damaged

CHANNELS = "channel_names"
STATISTICS = "foreground_intensity_properties_per_channel"
FORMER_NAMES = {CHANNELS: "modality", STATISTICS: "foreground_intensity_properties_by_modality"}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_name, value))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, int | float) and 0 < x <= LARGEST for x in value)


def _are_three_sizes(value: Any) -> bool:
    return _are_sizes(value) and len(value) == 3


def _is_order_of_axes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(axis, int) for axis in value) and sorted(value) == [0, 1, 2]


def _are_objects_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_object, value.values()))


def _is_resampling_function(value: Any) -> bool:
    try:
        return _is_name(value) and inspect.isfunction(recursive_find_resampling_fn_by_name(value))
    except RuntimeError:  # nnU-Net has no function of this name
        return False


Needed = dict[str, tuple[Callable[[Any], bool], str]]
"""For the key of each entry: a test of its value, and words for the values that pass."""

OF_DATASET: Needed = {CHANNELS: (_is_object, "an object"), "labels": (_is_object, "an object")}
OF_PLANS: Needed = {
    "configurations": (_are_objects_by_name, "an object for each configuration"),
    "image_reader_writer": (_is_name, "a name"),
    "transpose_backward": (_is_order_of_axes, "an order of three axes"),
    "original_median_spacing_after_transp": (_are_three_sizes, "a list of three positive numbers"),
    "original_median_shape_after_transp": (_are_three_sizes, "a list of three positive numbers"),
    STATISTICS: (_are_objects_by_name, "an object for each channel"),
}
OF_CONFIGURATION: Needed = {
    "data_identifier": (_is_name, "a name"),
    "patch_size": (_are_sizes, "a list of positive numbers"),
    "normalization_schemes": (_are_names, "a list of names"),
    **{f"resampling_fn_{x}": (_is_resampling_function, "one of nnU-Net's resampling functions") for x in RESAMPLED},
    **{f"resampling_fn_{x}_kwargs": (_is_object, "an object") for x in RESAMPLED},
}


def wrong_entry(entries: Any, needed: Needed) -> str | None:
    """Say what is wrong with the first entry that is not as needed, as the end of a sentence; None if all are right."""
    if not isinstance(entries, dict):
        return f"holds {reprlib.repr(entries)} where an object is needed"
    for key, (is_right, description) in needed.items():
        key = name_in(entries, key)
        if key not in entries:
            return f"has no {key}"
        if not is_right(entries[key]):
            return f"has {key} {reprlib.repr(entries[key])} where {description} is needed"
    return None


def name_in(entries: dict[str, Any], key: str) -> str:
    """Return the key, or its former name if the entries only have that."""
    former = FORMER_NAMES.get(key)
    return former if former in entries and key not in entries else key
