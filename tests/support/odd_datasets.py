"""Small raw data sets of every kind that nnU-Net may accept, drawn by hypothesis, and nnU-Net's own verdict on them."""

import json
import os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import nibabel
import numpy as np
import SimpleITK
import tifffile
from hypothesis import strategies as st
from nnunetv2.evaluation import evaluate_predictions
from nnunetv2.experiment_planning import verify_dataset_integrity
from nnunetv2.utilities import utils

from nnunetv2_tpmamba.data.cases import APPLE_DOUBLE

SHAPE, SPACING = (6, 7, 8), (1.5, 1.0, 1.0)  # (z, y, x), mm
FROM_ZERO = {"background": 0, "one": 1, "two": 2}
CLASSES = {  # entries of dataset.json, and the values of each class as nnU-Net reads them
    "plain": ({"labels": FROM_ZERO}, {"one": {1}, "two": {2}}),
    "text": ({"labels": {"background": "0", "one": "1", "two": "2"}}, {"one": {1}, "two": {2}}),
    "lists and floats": ({"labels": {"background": 0.0, "one": [1], "two": 2.0}}, {"one": {1}, "two": {2}}),
    "another order": ({"labels": {"two": 2, "background": 0, "one": 1}}, {"one": {1}, "two": {2}}),
    "two names": ({"labels": {"background": 0, "left": 1, "right": 1, "two": 2}}, {"left, right": {1}, "two": {2}}),
    "ignore": ({"labels": FROM_ZERO | {"ignore": 3}}, {"one": {1}, "two": {2}}),
    "regions": (
        {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
        {"whole": {1, 2}, "core": {2}},
    ),
    "regions with ignore": (
        {"labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, "regions_class_order": [1, 2]},
        {"whole": {1, 2}, "core": {2}},
    ),
    "odd names": (
        {"labels": {"background": 0, "_one $x$ y": 1, "two|<b>&'\"": 2}},
        {"_one $x$ y": {1}, "two|<b>&'\"": {2}},
    ),
    "regions as text": ({"labels": {"background": 0, "whole": ["1", "2"]}, "regions_class_order": [1]}, None),
    "regions without order": ({"labels": {"background": 0, "whole": [1, 2]}}, None),
    "a gap": ({"labels": {"background": 0, "one": 1, "two": 3}}, None),
    "a fraction": ({"labels": {"background": 0, "one": 1, "two": 1.5}}, None),
    "no background": ({"labels": {"one": 1, "two": 2}}, None),
}
LETTERS = "aZ09._- '\"$%&äß中"
NAMES = st.one_of(
    st.sampled_from(["a", "a_seg", "a_0000", "a_0000_0001", "a.nii", "._a", "a b", "a_seg_seg", "b", "c"]),
    st.text(LETTERS, min_size=1, max_size=4).filter(lambda name: name not in (".", "..")),
)


@st.composite
def odd_datasets(draw):
    """What a data set is like; :func:`write` makes it."""
    ending = draw(st.sampled_from([".nii.gz"] * 4 + [".nii", ".nrrd", ".mha", ".tif"]))
    return SimpleNamespace(
        ending=ending,
        cases=draw(st.lists(NAMES, min_size=2, max_size=3, unique=True)),
        kind=draw(st.sampled_from(list(CLASSES) + ["plain"] * 6)),
        channels=draw(st.sampled_from([1, 1, 2])),
        listed=draw(st.sampled_from(["no", "no", "absolute", "relative", "variable"])),
        other_ending=draw(st.booleans()) if ending == ".nii.gz" else False,
        origin=draw(st.sampled_from([0.0, 0.0, 0.02])),  # mm between image and label
        is_sheared=draw(st.booleans()) if ending == ".nii" else False,
        extra=draw(st.sampled_from(["nothing", "nothing", "nothing", "AppleDouble", "other files", "missing label"])),
        seed=draw(st.integers(0, 9)),
    )


def write(odd, folder):
    """Write the data set; returns what each case's label map holds."""
    generator = np.random.default_rng(odd.seed)
    elsewhere = folder.parent / "elsewhere"
    for part in (folder / "imagesTr", folder / "labelsTr", elsewhere):
        part.mkdir(parents=True)
    os.environ["ELSEWHERE"] = str(elsewhere)
    start = {"no": "", "absolute": f"{elsewhere}/", "relative": "../elsewhere/", "variable": "$ELSEWHERE/"}[odd.listed]
    values, listed = {}, {}
    most = 3 if "ignore" in odd.kind or odd.kind == "a gap" else 2
    for number, case in enumerate(odd.cases):
        label = np.zeros(SHAPE, np.uint8)
        for value in range(1, most + 1):
            if generator.random() < 0.7 and not (odd.kind == "a gap" and value == 2):
                label[value : value + 3, 1 + value : 4 + value, 2:6] = value
        values[case] = set(np.unique(label).tolist())
        images = [generator.normal(0, 80, SHAPE).astype(np.float32) for _ in range(odd.channels)]
        if odd.listed == "no":
            names = [f"{case}_{channel:04d}" for channel in range(odd.channels)]
            paths, of_label = [folder / "imagesTr" / f"{x}{odd.ending}" for x in names], folder / f"labelsTr/{case}"
        else:
            ending = ".nii" if odd.other_ending else odd.ending
            paths = [elsewhere / f"file{number}_{channel:04d}{ending}" for channel in range(odd.channels)]
            of_label = elsewhere / f"label{number}"
            listed[case] = {
                "images": [start + path.name for path in paths],
                "label": f"{start}label{number}{ending}",
            }
        for image, path in zip(images, paths, strict=True):
            write_volume(image, path, is_sheared=odd.is_sheared)
        label_ending = ".nii" if odd.other_ending and listed else odd.ending
        write_volume(label, Path(f"{of_label}{label_ending}"), odd.origin, odd.is_sheared)
    if odd.extra == "AppleDouble":
        for part, ending in (("imagesTr", f"_0000{odd.ending}"), ("labelsTr", odd.ending)):
            (folder / part / f"._{odd.cases[0]}{ending}").write_bytes(APPLE_DOUBLE + b"Mac OS X")
    elif odd.extra == "other files":
        for name in ("labelsTr/of_no_image" + odd.ending, "imagesTr/notes.txt", "imagesTr/.DS_Store"):
            (folder / name).write_bytes(b"")
    elif odd.extra == "missing label" and odd.listed == "no":
        (folder / "labelsTr" / f"{odd.cases[0]}{odd.ending}").unlink()
    description = {
        "channel_names": {str(channel): "CT" for channel in range(odd.channels)},
        "numTraining": len(odd.cases),
        "file_ending": odd.ending,
        **CLASSES[odd.kind][0],
        **({"dataset": listed} if listed else {}),
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return values


def write_volume(array, path, origin=0.0, is_sheared=False):
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    elif is_sheared:
        affine = np.array([[-1, 0.3, 0, origin], [0, -1, 0.2, 0], [0, 0, 1.5, 0], [0, 0, 0, 1.0]])
        nibabel.save(nibabel.Nifti1Image(array.T, affine), path)
    else:
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(SPACING[::-1])
        image.SetOrigin((0, origin, 0))
        SimpleITK.WriteImage(image, str(path))


class OneByOne:
    """Stands in for multiprocessing's pools and contexts: does the work in this process."""

    def __init__(self, *_, **__):
        pass

    def Pool(self, *_, **__):  # noqa: N802 - multiprocessing's name
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def starmap(self, function, arguments):
        return [function(*each) for each in arguments]


def in_one_process():
    """Let nnU-Net list, verify and evaluate in this process; starting others would take seconds."""
    stand_in = SimpleNamespace(get_context=OneByOne, Pool=OneByOne)
    return (
        patch.object(utils, "Pool", OneByOne),
        patch.object(verify_dataset_integrity, "multiprocessing", stand_in),
        patch.object(evaluate_predictions, "multiprocessing", stand_in),
    )


def stock_accepts(folder):
    """Whether ``nnUNetv2_plan_and_preprocess --verify_dataset_integrity`` accepts a raw data set."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            verify_dataset_integrity.verify_dataset_integrity(str(folder), 1)
        except Exception:  # nnU-Net raises many kinds
            return False
    return True
