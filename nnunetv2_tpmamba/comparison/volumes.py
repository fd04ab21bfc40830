"""Read an image, its truth and predictions of it for a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from nnunetv2_tpmamba.config import Testbed

from .pictures import CasePicture


def read_case_picture(
    title: str, image: Path | None, truth: Path, predictions: Mapping[str, Path], description: Mapping[str, Any]
) -> CasePicture:
    """All volumes in one orientation; an image that is not known, not readable or not of its truth's size is black.

    Args:
        description: ``dataset.json``; a CT is shown in the paper's HU window.
    """
    labels = read_volume(truth)
    try:
        voxels, why = read_image(image, labels.GetSize()), ""
        black, white = window(voxels, description)
    except ValueError as error:
        voxels, why = np.zeros(labels.GetSize()[::-1]), str(error)
        black, white = 0, 1
    return CasePicture(
        title,
        voxels,
        SimpleITK.GetArrayFromImage(labels),
        {name: SimpleITK.GetArrayFromImage(read_volume(path)) for name, path in predictions.items()},
        spacing=labels.GetSpacing()[::-1],
        window=(black, white),
        without_image=why,
    )


def read_image(path: Path | None, size: tuple[int, ...]) -> np.ndarray:
    """Raises ValueError where there is none of this size (x, y, z)."""
    if path is None:
        raise ValueError("there is none")
    image = read_volume(path)
    if image.GetSize() != size:
        shown, needed = (" x ".join(map(str, of)) for of in (image.GetSize(), size))
        raise ValueError(f"{path} has {shown} voxels, its truth {needed}")
    return np.nan_to_num(SimpleITK.GetArrayFromImage(image))


def window(voxels: np.ndarray, description: Mapping[str, Any]) -> tuple[float, float]:
    names = description.get("channel_names")
    first = next(iter(names.values()), "") if isinstance(names, Mapping) else ""
    if str(first).casefold() == "ct":
        return Testbed.hu_window
    black, white = np.percentile(voxels, (0.5, 99.5))
    return float(black), float(white)


def read_volume(path: Path) -> SimpleITK.Image:
    """Counted to the left, to the back and to the head; a 2D image as one slice, as it is; of colours, the first."""
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:  # whose message has several lines
        raise ValueError(f"{path} cannot be read ({str(error).strip().splitlines()[-1].strip()})") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = SimpleITK.VectorIndexSelectionCast(image, 0)
    if image.GetDimension() == 2:
        return SimpleITK.JoinSeries(image)
    return SimpleITK.DICOMOrient(image, "LPS")
