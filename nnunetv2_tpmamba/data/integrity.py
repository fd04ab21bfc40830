"""Checks of one training case, made when it is preprocessed."""

import contextlib
import io
from collections.abc import Sequence

import nibabel
import numpy as np
import SimpleITK
from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.label_handling.label_handling import LabelManager

OUTSIDE = 0.9  # largest part of the labelled voxels that may lie outside the HU window without a warning
EDGE = 0.02  # part of the HU window; resampling moves clipped values up to this far from its ends


def check_raw_case(
    images: list[str], label: str, num_channels: int, label_manager: LabelManager, reader: type[BaseReaderWriter]
) -> list[str]:
    """Check one case as ``nnUNetv2_plan_and_preprocess --verify_dataset_integrity`` does; return warnings about it.

    Args:
        images: the file of each channel.
        label: the file of the label map.
        num_channels: how many channels the plans were made for.
        label_manager: nnU-Net's, which knows the label values.
        reader: nnU-Net's class that reads these files.

    Raises:
        ValueError: a file is not 3D, a voxel is NaN, image and label differ in shape or spacing, or ``dataset.json``
            names other channels or label values.
    """
    if issubclass(reader, SimpleITKIO):
        check_dimensions([*images, label])
    expected = [*label_manager.all_labels, *([label_manager.ignore_label] if label_manager.has_ignore_label else [])]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        is_good = check_cases(images, label, num_channels, reader) and verify_labels(label, reader, expected)
    text = " ".join(said.getvalue().split())
    if not is_good:
        raise ValueError(text.removeprefix("Error: "))
    return [*([text] if text else []), *lost_voxels(images)]


def check_dimensions(files: Sequence[str]) -> None:
    """Raise ValueError for a file of other than three dimensions, from whose header nnU-Net could write no result."""
    header = SimpleITK.ImageFileReader()
    for file in files:
        header.SetFileName(file)
        header.ReadImageInformation()
        if (dimensions := header.GetDimension()) != 3:
            raise ValueError(
                f"{file} has {dimensions} dimensions; save it with 3, several channels in a file each (_0000, _0001)"
            )


def lost_voxels(images: Sequence[str]) -> list[str]:
    """Return warnings about voxels of NIfTI files that are no finite numbers, which SimpleITK reads as 0 silently."""
    warnings = []
    for file in images:
        if file.endswith((".nii", ".nii.gz")) and (image := nibabel.load(file)).get_data_dtype().kind == "f":
            lost = np.count_nonzero(~np.isfinite(np.asanyarray(image.dataobj)))
            if lost:
                warnings.append(
                    f"{lost} voxels of {file} are NaN or infinite, and are read as 0; if that is no sensible value, "
                    "replace them"
                )
    return warnings


def check_intensities(data: np.ndarray, segmentation: np.ndarray, schemes: Sequence[str]) -> list[str]:
    """Check a preprocessed case; return warnings about channels that a network could not learn from.

    Args:
        data: ``(C, D, H, W)``; in CT channels 0 and 1 are the ends of the HU window.
        segmentation: ``(1, D, H, W)``.
        schemes: the name of nnU-Net's normalization scheme for each channel.

    Raises:
        ValueError: a voxel is not a finite number.
    """
    if not np.isfinite(data).all():
        raise ValueError("the images have voxels that are not finite numbers; repair them or remove the case")
    warnings = []
    labelled = segmentation[0] > 0
    for number, (channel, scheme) in enumerate(zip(data, schemes, strict=True)):
        outside = np.mean((channel[labelled] < EDGE) | (channel[labelled] > 1 - EDGE)) if labelled.any() else 0
        if channel.min() == channel.max():
            warnings.append(f"channel {number} has the same value everywhere")
        elif scheme == "CTNormalization" and outside > OUTSIDE:
            warnings.append(
                f"{outside:.0%} of the labelled voxels of channel {number} are outside the HU window, so the network "
                "cannot tell them apart: is the image in HU? Its rescale slope or intercept may be lost"
            )
    return warnings
