"""Read an image, its truth and predictions of it for a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from .config import TPMambaConfig
from .pictures import Comparison


def read_comparison(
    title: str, image: Path | None, truth: Path, predictions: Mapping[str, Path], description: Mapping[str, Any]
) -> Comparison:
    """All volumes in one orientation; an image that is not known, or is of another size than its truth, is black.

    Args:
        description: ``dataset.json``; a CT is shown in the paper's HU window.
    """
    labels = read_volume(truth)
    voxels = np.zeros(labels.GetSize()[::-1])
    if image is not None and (known := read_volume(image)).GetSize() == labels.GetSize():
        voxels = SimpleITK.GetArrayFromImage(known)
    is_ct = str(next(iter(description.get("channel_names", {0: ""}).values()))).casefold() == "ct"
    black, white = TPMambaConfig.hu_window if is_ct else np.percentile(voxels, (0.5, 99.5))
    return Comparison(
        title,
        voxels,
        SimpleITK.GetArrayFromImage(labels),
        {name: SimpleITK.GetArrayFromImage(read_volume(path)) for name, path in predictions.items()},
        spacing=labels.GetSpacing()[::-1],
        window=(float(black), float(white)),
    )


def read_volume(path: Path) -> SimpleITK.Image:
    """Counted to the left, to the back and to the head."""
    return SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
