"""Dice and normalised surface Dice of one prediction, per class."""

import gzip
import io
import math
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

NO_THICKNESS = 999  # nnU-Net's readers give a 2D image this thickness, in mm or in multiples of its largest spacing
GEOMETRY_TOLERANCE = 1e-3  # mm
MOST_VALUES_NAMED = 5
CHUNK = 1 << 20  # bytes

Scores = dict[str, tuple[float, float]]
"""Dice and normalised surface Dice of each class; NaN where it is absent from truth and prediction."""


@dataclass(frozen=True)
class Pair:
    """A prediction, its truth and what decides their scores.

    Args:
        classes: the label of each class, or the labels of its region.
        ignore_label: voxels with this label in the truth do not count.
        tolerance: mm within which surfaces agree, of each class.
        reader: nnU-Net's reader for these files.
    """

    truth: Path
    prediction: Path
    classes: Mapping[str, int | tuple[int, ...]]
    ignore_label: int | None
    tolerance: Mapping[str, float]
    reader: type[BaseReaderWriter]

    @property
    def known(self) -> list[int]:
        """All values that a label map may hold: background, the values of classes and regions, the ignore label."""
        values = {0} if self.ignore_label is None else {0, self.ignore_label}
        for value in self.classes.values():
            values.update(value if isinstance(value, tuple) else (value,))
        return sorted(values)


def score_pair(pair: Pair) -> Scores:
    """Read both files and score every class.

    Dice is computed as nnU-Net does for its ``summary.json``. A class in only one of the two has a surface Dice of 0.
    When surfaces are compared, ignored voxels are background in both.

    Raises:
        ValueError: a file cannot be read or holds other labels, or the two are not of one geometry.
    """
    truth, truth_properties = read(pair.truth, pair.reader)
    prediction, properties = read(pair.prediction, pair.reader)
    check_geometry(pair, truth, prediction, truth_properties, properties)
    check_labels(pair.truth, truth, pair.known)
    check_labels(pair.prediction, prediction, pair.known)
    ignored = truth == pair.ignore_label if pair.ignore_label is not None else None
    spacing = tuple(float(value) for value in truth_properties["spacing"])
    scores = {}
    for name, value in pair.classes.items():
        truth_mask, mask = (region_or_label_to_mask(array, value) for array in (truth, prediction))
        tp, fp, fn, _ = compute_tp_fp_fn_tn(truth_mask, mask, ignored)
        dice = float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else math.nan
        if ignored is not None:
            truth_mask, mask = truth_mask & ~ignored, mask & ~ignored
        scores[name] = (dice, surface_dice(truth_mask, mask, spacing, pair.tolerance[name]))
    return scores


def surface_dice(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float:
    """The part of both surfaces that lies within ``tolerance`` of the other one; NaN if both masks are empty.

    Source: Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy" (JMIR 2021),
    as their package ``surface-distance`` computes it.

    Args:
        spacing: mm.
        tolerance: mm.

    Shape:
        both masks ``(z, y, x)``.
    """
    from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

    if not truth.any() or not prediction.any():  # with NumPy 2 the package fails on an empty mask
        return 0.0 if truth.any() or prediction.any() else math.nan
    if len(truth) == 1 and is_two_dimensional(spacing):
        truth, prediction, spacing = truth[0], prediction[0], spacing[1:]
    part = bounding_box(truth | prediction)  # voxels outside change nothing but the time it takes
    distances = compute_surface_distances(truth[part], prediction[part], spacing)
    return float(compute_surface_dice_at_tolerance(distances, tolerance))


def is_two_dimensional(spacing: tuple[float, ...]) -> bool:
    """Whether the slice thickness is the one that nnU-Net's readers invent for a 2D image."""
    thickness, *in_plane = spacing
    return any(math.isclose(thickness, NO_THICKNESS * unit, rel_tol=1e-6) for unit in (1.0, max(in_plane)))


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds a mask, which is not empty."""
    axes = range(mask.ndim)
    used = (np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in used)


def read(file: Path, reader: type[BaseReaderWriter]) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a label map ``(z, y, x)`` and nnU-Net's properties of it.

    Raises:
        ValueError: the file is missing, empty, cut off or cannot be read.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist; predict this case again")
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty; it was cut off while being written: make it again")
    try:
        if file.name.endswith(".gz"):
            read_to_the_end(file)
        labels, properties = reader().read_seg(str(file))
    except Exception as error:  # each reader's library raises its own kinds for a damaged file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{file} cannot be read ({lines[-1].strip()}); make it again") from error
    return labels[0], properties


def read_to_the_end(file: Path) -> None:
    """Raise the error of :mod:`gzip` if a file was cut off; ITK reads such a file without an error."""
    with gzip.open(file) as stream:
        while stream.read(CHUNK):
            pass


def reader_of(description: Mapping[str, Any], files: Iterable[Path]) -> type[BaseReaderWriter]:
    """nnU-Net's reader for a dataset's label maps, chosen by the first file that can be read.

    Raises:
        ValueError: nnU-Net has no reader for this ``file_ending``.
    """
    for example in (*map(str, files), None):  # None: if all are damaged, reading them later says so
        with redirect_stderr(io.StringIO()), suppress(RuntimeError):  # for a damaged file nnU-Net prints a traceback
            return determine_reader_writer_from_dataset_json(dict(description), example, verbose=False)
    raise ValueError(f"file_ending {description['file_ending']} in dataset.json: nnU-Net has no reader for such files")


def check_labels(file: Path, labels: np.ndarray, known: list[int]) -> None:
    """Raise ValueError if a label map holds a value that ``dataset.json`` does not name."""
    foreign = np.unique(labels[~np.isin(labels, known)])
    if len(foreign):
        more = f", ... ({len(foreign)} such values)" if len(foreign) > MOST_VALUES_NAMED else ""
        named = ", ".join(f"{value:g}" for value in foreign[:MOST_VALUES_NAMED])
        raise ValueError(
            f"{file} holds the values {named}{more}; dataset.json names {', '.join(map(str, known))}: these are other "
            "labels, or no label map"
        )


def check_geometry(
    pair: Pair,
    truth: np.ndarray,
    prediction: np.ndarray,
    truth_properties: Mapping[str, Any],
    properties: Mapping[str, Any],
) -> None:
    """Raise ValueError if truth and prediction differ in shape, spacing, position or orientation."""
    ours, theirs = geometry(truth, truth_properties), geometry(prediction, properties)
    for name in ours.keys() & theirs.keys():
        if np.shape(ours[name]) != np.shape(theirs[name]) or not np.allclose(
            ours[name], theirs[name], rtol=0, atol=GEOMETRY_TOLERANCE
        ):
            raise ValueError(
                f"{pair.prediction} has another {name} than its truth {pair.truth}: {shown(theirs[name])} instead of "
                f"{shown(ours[name])}; predict from the image that this truth was drawn on"
            )


def geometry(labels: np.ndarray, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Shape, spacing, and whatever nnU-Net's reader says of position and orientation."""
    result = {"shape": labels.shape, "spacing": properties["spacing"]}
    itk = properties.get("sitk_stuff", {})
    result |= {name: itk[name] for name in ("origin", "direction") if name in itk}
    affine = properties.get("nibabel_stuff", {}).get("original_affine")
    return result if affine is None else result | {"affine": affine}


def shown(values: Any) -> str:
    """Numbers in a row, for a message."""
    return " ".join(f"{value:g}" for value in np.ravel(values))
