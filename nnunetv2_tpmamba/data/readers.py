"""Which of nnU-Net's readers the derived plans name: one that turns every image to RAS where there is one.

nnU-Net reads an image as its file stores it, and takes its first axis for depth whatever that axis is in the patient.
Its readers with ``Reorient`` in their names turn images to RAS and turn results back. Plans that name one are all that
stock preprocessing, validation and prediction need.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from nnunetv2_tpmamba.config import Orientation

from .labels import Labels

TURNING = {"SimpleITKIO": "SimpleITKIOWithReorient"}
"""For a reader that reads as stored, the one that reads the same files and turns them."""
READ_RAS = ("SimpleITKIOWithReorient", "NibabelIOWithReorient")
LARGEST_LABEL = 254  # nnU-Net's reader that turns writes uint8; the other one changes to uint16 above this


def reader_for(reader: str, dataset_json: Mapping[str, Any], orientation: Orientation) -> str:
    """Return the reader that the derived plans name.

    Args:
        reader: the one of the stock plans.
        dataset_json: the dataset's description.
        orientation: ``"RAS"``, or ``"stored"`` for whatever the reader of the stock plans does.

    Raises:
        ValueError: another orientation, or labels that nnU-Net cannot use.
    """
    if orientation not in get_args(Orientation):
        raise ValueError(f'orientation {orientation!r}: set it to "RAS", or to "stored" to turn no image')
    if orientation == "stored" or why_as_stored(reader, dataset_json) is not None:
        return reader
    return TURNING.get(reader, reader)


def why_as_stored(reader: str, dataset_json: Mapping[str, Any]) -> str | None:
    """Say why images that this reader reads cannot be turned to RAS, as part of a sentence; None if they can."""
    if reader in READ_RAS:
        return None
    if reader not in TURNING:
        advice = (
            "; name NibabelIOWithReorient as overwrite_image_reader_writer in dataset.json and plan again to turn them"
            if reader == "NibabelIO"
            else ""
        )
        return f"the plans name {reader}{advice}"
    if (largest := largest_label(dataset_json)) > LARGEST_LABEL:
        return f"{TURNING[reader]} writes labels up to {LARGEST_LABEL}, and dataset.json has {largest}"
    return None


def largest_label(dataset_json: Mapping[str, Any]) -> int:
    """The largest value that a label map or a prediction may hold."""
    order = dataset_json.get("regions_class_order")  # the values that nnU-Net writes where there are regions
    written = [value for value in order if isinstance(value, int)] if isinstance(order, list) else []
    return max([0, *Labels.of(dataset_json).names_of_values(), *written])


def orientation_of_folds(plans: Mapping[str, Any], model: Path | None, wanted: Orientation) -> Orientation:
    """Return how the folds that a model already has were read, else what is wanted.

    All folds share one ``plans.json``, by which prediction reads. A fold that read otherwise than those before it would
    make them predict wrongly, and so would a training that goes on otherwise than it began.

    Args:
        plans: the stock plans.
        model: nnU-Net's folder of the model, which need not exist; None if nnUNet_results is not set.
    """
    if model is None or not any(model.glob("fold_*/checkpoint_*.pth")):
        return wanted
    try:
        trained = json.loads((model / "plans.json").read_text(encoding="utf-8"))["image_reader_writer"]
    except (OSError, ValueError, KeyError, TypeError):  # nnU-Net writes the file anew
        return wanted
    stock = str(plans.get("image_reader_writer"))
    return "stored" if trained == stock and stock in TURNING else "RAS" if trained == TURNING.get(stock) else wanted
