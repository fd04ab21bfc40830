"""Read an image, its truth and its predictions for a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunetv2_tpmamba.config import Testbed

from .label_maps import LabelMap, read, reader_of, shown
from .pictures import CasePicture

AS_STORED = axcodes2ornt("RAS")  # as a change of orientation: none


def read_case_picture(
    title: str,
    image: Path | None,
    truth: Path,
    predictions: Mapping[str, Path],
    description: Mapping[str, Any],
    of_plans: str = "",
) -> CasePicture:
    """Read all volumes of a case as nnU-Net reads them, and turn them together as the image lies in the patient.

    Without an image that can be read and has the size of the truth, a black one is shown.

    Args:
        title: what is written above the case.
        image: None if there is none; of several channels in one file the first is shown.
        predictions: files by what is written above each.
        description: ``dataset.json``; a CT is shown in the paper's HU window.
        of_plans: the name of the reader in the plans of the models that predicted; empty for the dataset's.
    """
    reader = reader_of(description, [truth], of_plans)
    labels = read(truth, reader)
    try:
        found, why = read_image(image, reader, labels.labels.shape), ""
        voxels = np.nan_to_num(found.labels)
        black, white = window(voxels, description)
    except ValueError as error:
        found, why = labels, str(error)
        voxels = np.zeros(labels.labels.shape)
        black, white = 0, 1
    change = change_of_orientation(found.properties)
    x, y, z = np.argsort(change[:, 0])  # where the new axes come from
    spacing = labels.spacing[::-1]
    return CasePicture(
        title,
        turned(voxels, change),
        turned(labels.labels, change),
        {name: turned(read(path, reader).labels, change) for name, path in predictions.items()},
        spacing=(spacing[z], spacing[y], spacing[x]),
        window=(black, white),
        without_image=why,
    )


def read_image(path: Path | None, reader: type[BaseReaderWriter], shape: tuple[int, ...]) -> LabelMap:
    """Read an image, or the first channel of a file with several.

    Args:
        shape: voxels of the truth (z, y, x).

    Raises:
        ValueError: there is no image, it cannot be read, or it has another size.
    """
    if path is None:
        raise ValueError("there is none")
    image = read(path, reader)
    if image.labels.shape != shape:
        raise ValueError(f"{path} has {shown(image.labels.shape)} voxels, its truth {shown(shape)}")
    return image


def window(voxels: np.ndarray, description: Mapping[str, Any]) -> tuple[float, float]:
    """The values to show black and white: the paper's HU window for a CT, else percentiles of the voxels."""
    names = description.get("channel_names")
    first = next(iter(names.values()), "") if isinstance(names, Mapping) else ""
    if str(first).casefold() == "ct":
        return Testbed.hu_window
    black, white = np.percentile(voxels, (0.5, 99.5))
    return float(black), float(white)


def change_of_orientation(properties: Mapping[str, Any]) -> np.ndarray:
    """How to turn an array (x, y, z) so that its axes point to the left, the back and the head of the patient.

    Args:
        properties: what nnU-Net's reader says of the image; a 2D image, and one whose reader knows no patient, stays.

    Shape:
        result ``(3, 2)``, the new axis and the sign of each axis, as nibabel has it.
    """
    of_nibabel = properties.get("nibabel_stuff", {})
    affine = of_nibabel.get("reoriented_affine", of_nibabel.get("original_affine"))
    direction = properties.get("sitk_stuff", {}).get("direction", ())
    if len(direction) == 9:
        affine = np.eye(4)
        affine[:3, :3] = np.diag((-1, -1, 1)) @ np.reshape(direction, (3, 3))  # ITK's axes are LPS, nibabel's RAS
    if affine is None:
        return AS_STORED
    present = io_orientation(affine)
    return AS_STORED if np.isnan(present).any() else ornt_transform(present, axcodes2ornt("LPS"))


def turned(array: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Turn an array (z, y, x) by a change of the orientation of (x, y, z)."""
    return apply_orientation(array.T, change).T
