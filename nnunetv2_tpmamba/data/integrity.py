"""What can be wrong with one training case, looked for when it is preprocessed."""

import contextlib
import io
from collections.abc import Sequence

import nibabel
import numpy as np
from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

OUTSIDE = 0.9  # of the labelled voxels beyond the HU window: more is worth a warning
EDGE = 0.02  # in parts of the window: nnU-Net resamples what it has clipped


def check_raw_case(
    images: list[str], label: str, num_channels: int, label_manager: LabelManager, reader: type[BaseReaderWriter]
) -> list[str]:
    """Look at one case as ``nnUNetv2_plan_and_preprocess --verify_dataset_integrity`` does; return its warnings.

    Args:
        images: the file of each channel.

    Raises:
        ValueError: NaN, other shapes or spacings of image and label, other channels or label values than
            ``dataset.json`` names.
    """
    expected = [*label_manager.all_labels, *([label_manager.ignore_label] if label_manager.has_ignore_label else [])]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        is_good = check_cases(images, label, num_channels, reader) and verify_labels(label, reader, expected)
    text = " ".join(said.getvalue().split())
    if not is_good:
        raise ValueError(text.removeprefix("Error: "))
    return [*([text] if text else []), *lost_voxels(images)]


def lost_voxels(images: Sequence[str]) -> list[str]:
    """Warnings of voxels in NIfTI files that are not finite numbers: SimpleITK reads them as 0 without a word."""
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
    """Look at a preprocessed case; return warnings about what a network could not learn from.

    Args:
        data: ``(C, D, H, W)``; CT channels in parts of the HU window.
        segmentation: ``(1, D, H, W)``.
        schemes: nnU-Net's normalisation of each channel.

    Raises:
        ValueError: voxels that are not finite numbers.
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
