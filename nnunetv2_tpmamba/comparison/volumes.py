"""Read an image, its truth and its predictions for a picture."""

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
    """Read all volumes of a case in one orientation.

    Without an image that can be read and has the size of the truth, a black one is shown.

    Args:
        title: what is written above the case.
        image: None if there is none.
        predictions: files by what is written above each.
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
    """Read an image.

    Args:
        size: voxels of the truth (x, y, z).

    Raises:
        ValueError: there is no image, it cannot be read, or it has another size.
    """
    if path is None:
        raise ValueError("there is none")
    image = read_volume(path)
    if image.GetSize() != size:
        shown, needed = (" x ".join(map(str, of)) for of in (image.GetSize(), size))
        raise ValueError(f"{path} has {shown} voxels, its truth {needed}")
    return np.nan_to_num(SimpleITK.GetArrayFromImage(image))


def window(voxels: np.ndarray, description: Mapping[str, Any]) -> tuple[float, float]:
    """The values to show black and white: the paper's HU window for a CT, else percentiles of the voxels."""
    names = description.get("channel_names")
    first = next(iter(names.values()), "") if isinstance(names, Mapping) else ""
    if str(first).casefold() == "ct":
        return Testbed.hu_window
    black, white = np.percentile(voxels, (0.5, 99.5))
    return float(black), float(white)


def read_volume(path: Path) -> SimpleITK.Image:
    """Read a volume whose axes point to the left, the back and the head of the patient.

    A 2D image becomes one slice and is not turned. Of a colour image the first channel is taken.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:  # its message has several lines; the last one says why
        raise ValueError(f"{path} cannot be read ({str(error).strip().splitlines()[-1].strip()})") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = SimpleITK.VectorIndexSelectionCast(image, 0)
    if image.GetDimension() == 2:
        return SimpleITK.JoinSeries(image)
    return SimpleITK.DICOMOrient(image, "LPS")
