"""The metrics of a comparison, and the scores of one prediction."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from .label_maps import check_geometry, check_labels, read
from .surfaces import surface_scores


@dataclass(frozen=True)
class Metric:
    """How a metric is named, read and written.

    Args:
        unit: empty for a part of 1.
        form: of a mean, as :func:`format` takes it.
    """

    name: str
    unit: str
    higher_is_better: bool
    form: str

    @property
    def label(self) -> str:
        """The name with the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


METRICS = {
    metric.name: metric
    for metric in (
        Metric("Dice", "", True, ".3f"),
        Metric("NSD", "", True, ".3f"),
        Metric("HD95", "mm", False, ".2f"),
        Metric("ASSD", "mm", False, ".2f"),
    )
}
TRUTH_ML, PREDICTION_ML = VOLUMES = ("truth_ml", "prediction_ml")

Scores = dict[str, dict[str, float]]
"""Of each class the value of each metric and of both ``VOLUMES``; metrics are NaN where truth and prediction lack it.

A distance is infinite where only one of the two has the class.
"""


@dataclass(frozen=True)
class Pair:
    """A prediction, its truth and what decides their scores.

    Args:
        classes: the label of each class, or the labels of its region.
        ignore_label: voxels with this label in the truth do not count.
        tolerance: mm within which surfaces agree, of each class.
        reader: nnU-Net's reader for these files.
        with_place: position and orientation of the two must be equal; nnU-Net compares voxels, whatever headers say.
    """

    truth: Path
    prediction: Path
    classes: Mapping[str, int | tuple[int, ...]]
    ignore_label: int | None
    tolerance: Mapping[str, float]
    reader: type[BaseReaderWriter]
    with_place: bool = True

    @property
    def known(self) -> list[int]:
        """All values that a label map may hold: background, the values of classes and regions, the ignore label."""
        values = {0} if self.ignore_label is None else {0, self.ignore_label}
        for value in self.classes.values():
            values.update(value if isinstance(value, tuple) else (value,))
        return sorted(values)


def score_pair(pair: Pair) -> Scores:
    """Read both files and score every class.

    Dice is computed as nnU-Net does for its ``summary.json``; surfaces are those of :func:`surface_scores`, of a 2D
    image its contours. Ignored voxels are background in both. A volume in ml takes a 2D image for 1 mm thick.

    Raises:
        ValueError: a file cannot be read or holds other labels, or the two are not of one geometry.
    """
    truth, prediction = (read(file, pair.reader) for file in (pair.truth, pair.prediction))
    check_geometry(truth, prediction, pair.with_place)
    check_labels(truth, pair.known)
    check_labels(prediction, pair.known)
    flat = truth.is_two_dimensional
    spacing = truth.spacing[1:] if flat else truth.spacing
    ml = math.prod(spacing) / 1000
    arrays = [of.labels[0] if flat else of.labels for of in (truth, prediction)]
    ignored = None if pair.ignore_label is None else arrays[0] == pair.ignore_label
    scores = {}
    for name, value in pair.classes.items():
        truth_mask, mask = (region_or_label_to_mask(array, value) for array in arrays)
        if ignored is not None:
            truth_mask, mask = truth_mask & ~ignored, mask & ~ignored
        part = bounding_box(truth_mask | mask)  # voxels outside change nothing but the time it takes
        truth_mask, mask = truth_mask[part], mask[part]
        tp, fp, fn, _ = compute_tp_fp_fn_tn(truth_mask, mask)
        dice = float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else math.nan
        volumes = {TRUTH_ML: float((tp + fn) * ml), PREDICTION_ML: float((tp + fp) * ml)}
        scores[name] = {"Dice": dice, **surface_scores(truth_mask, mask, spacing, pair.tolerance[name]), **volumes}
    return scores


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds a mask."""
    axes = range(mask.ndim)
    used = (np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(indices[0]), int(indices[-1]) + 1) if len(indices) else slice(0) for indices in used)
