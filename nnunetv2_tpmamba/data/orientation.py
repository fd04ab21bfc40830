"""How the training cases are stored and read, as the log says it: which are turned to RAS, and what follows from it."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import nibabel
import SimpleITK

from .manifest import Manifest, name_some
from .planned_data import PlannedData
from .readers import READ_RAS, why_as_stored


def orientation_of(properties: Mapping[str, Any]) -> str:
    """Return the orientation in which an image is stored, such as ``"LPS"``; empty if its format has none.

    The letters say where the first, second and third axis of the file point to: left or right, posterior or anterior,
    superior or inferior.

    Args:
        properties: what nnU-Net's reader says of the image.
    """
    if "nibabel_stuff" in properties:
        return "".join(map(str, nibabel.aff2axcodes(properties["nibabel_stuff"]["original_affine"])))
    itk = properties.get("sitk_stuff", {})
    if "original_orientation" in itk:
        return itk["original_orientation"]
    direction = itk.get("direction", ())
    is_3d = len(direction) == 9
    return SimpleITK.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(direction) if is_3d else ""


def describe_orientations(data: PlannedData, as_before: bool = False) -> str:
    """Say in which orientation the training cases are read and how many are stored in another one.

    Args:
        data: preprocessed data, whose manifest has the orientation of each case.
        as_before: whether they are read so because the model's earlier folds were.
    """
    manifest = Manifest.read(data.folder)
    cases: dict[str, list[str]] = defaultdict(list)
    for case, record in manifest.cases.items() if manifest else ():
        if record is not None and record.orientation:
            cases[record.orientation].append(case)
    by_number = sorted(cases.items(), key=lambda item: -len(item[1]))
    total = sum(map(len, cases.values()))
    reader = data.plans["image_reader_writer"]
    if reader in READ_RAS:
        counts = ", ".join(f"{len(named)} {stored}" for stored, named in by_number) or "none is on record"
        otherwise = total - len(cases["RAS"])
        return (
            f"Orientation: every image is read as RAS ({reader}); {otherwise} of {total} training cases were stored "
            f"otherwise ({counts}). Results come back in the orientation of their image"
        )
    reason = "the model's earlier folds were" if as_before else "the trainer's testbed asks for it"
    as_stored = f"images are read as they are stored, because {why_as_stored(reader, data.dataset_json) or reason}"
    if len(cases) < 2:
        uniform = f"; all {total} training cases are {by_number[0][0]}" if cases else ""
        return f"Orientation: {as_stored}{uniform}"
    named = "; ".join(f"{len(named)} {stored} ({name_some(named, 10)})" for stored, named in by_number)
    return (
        f"WARNING: the training cases differ in orientation, and {as_stored}: {named}. The network sees these turned, "
        "and depth is not the same axis in all; store all cases in one orientation, or expect worse results"
    )


def describe_ensembling(plans: Mapping[str, Any], stock_reader: str) -> str:
    """Say with which models the probabilities of a model can be averaged.

    Args:
        plans: the derived plans, which are the model's.
        stock_reader: the one of the stock plans of the same name, on which stock trainers train.
    """
    reader, plans_name = plans["image_reader_writer"], plans["plans_name"]
    alike = (
        f"Ensembling: nnUNetv2_ensemble and nnUNetv2_find_best_configuration average these probabilities voxel by "
        f"voxel with those of another model, which must read images alike ({reader} in its plans.json), as other "
        "trainers of this package do"
    )
    if reader == stock_reader:
        return f"{alike} and stock trainers on {plans_name} too"
    return (
        f"{alike}. Stock trainers on {plans_name} do not: {stock_reader} reads images as they are stored, and the "
        "average with turned arrays would be wrong without a message. To ensemble with one, set "
        f'"overwrite_image_reader_writer": "{reader}" in dataset.json, then plan, preprocess and train it again'
    )
