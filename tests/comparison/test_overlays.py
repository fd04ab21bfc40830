"""Which cases are drawn and what is said of them; whatever is wrong with the images, no error leaves the function."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from support.trained_datasets import CASES, DESCRIPTION, Datasets

from nnunetv2_tpmamba.comparison.gather import gather_folders
from nnunetv2_tpmamba.comparison.overlays import overlays, ranked
from nnunetv2_tpmamba.comparison.results import Group
from nnunetv2_tpmamba.comparison.scoring import score_runs
from nnunetv2_tpmamba.data.cases import images_in


def test_as_many_cases_are_shown_as_there_are_up_to_three():
    dice = {"a": 0.5, "b": 0.9, "c": math.nan, "d": 0.7}
    assert list(ranked(dice).items()) == [("b", "best: "), ("d", "median: "), ("a", "worst: ")]
    assert ranked({"a": 0.5, "b": 0.9}) == {"b": "best: ", "a": "worst: "}
    assert ranked({"a": 0.5, "c": math.nan}) == {"a": ""}
    assert ranked({"c": math.nan}) == {}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two methods in plain folders, on five cases."""
    data = Datasets(tmp_path, monkeypatch)
    for name, shift in (("a", 2), ("b", 1)):
        for index, case in enumerate(CASES[:5]):
            moved = np.roll(data.truth[case], shift * (1 + index % 2), axis=2)
            data.write(data.root / name / f"{case}.nii.gz", moved)
    return data


@pytest.fixture
def draw(data):
    """Score both methods and draw; return pictures and notes."""

    def run(images):
        folders = {name: data.root / name for name in "ab"}
        return scored_and_drawn(folders, data.preprocessed / "gt_segmentations", DESCRIPTION, images)

    return run


def scored_and_drawn(folders, reference, description, images):
    gathered = gather_folders(folders, reference, description)
    results = score_runs(gathered, dict.fromkeys(gathered.labels.classes, 1.0), 1, reference.parent / "cache")
    return overlays(results, gathered, images)


def test_of_each_case_image_truth_and_predictions_are_drawn(data, draw):
    pictures, notes = draw(images_in(data.raw / "imagesTr", ".nii.gz"))
    assert pictures["overlays.png"][0] == "Test cases, chosen by the mean Dice of all methods."
    assert pictures["overlays.png"][1].startswith(b"\x89PNG")
    assert notes == ()


@pytest.mark.parametrize(
    ("group", "shown"),
    [
        (Group("fold 0", ("0",)), " (fold 0)"),
        (Group("2 training cases", ("0", "1"), 2), " (2 training cases: fold 0)"),
    ],
)
def test_the_caption_names_the_fold_once(data, group, shown):
    gathered = gather_folders({"a": data.root / "a"}, data.preprocessed / "gt_segmentations", DESCRIPTION)
    runs = [replace(run, fold=fold) for run in gathered.runs for fold in group.folds]
    gathered = replace(gathered, runs=runs, groups=(group,))
    results = score_runs(gathered, {"one": 1.0, "two": 1.0}, 1, data.root / "cache")
    pictures, _ = overlays(results, gathered, images_in(data.raw / "imagesTr", ".nii.gz"))
    assert pictures["overlays.png"][0] == f"Test cases, chosen by the mean Dice of all methods{shown}."


def test_without_images_the_caption_says_how_to_name_them(data, draw):
    pictures, notes = draw({})
    assert re.search(
        r"No image of case_\d, case_\d, case_\d was found; name the folder of images with --images",
        pictures["overlays.png"][0],
    )
    assert notes == ()


def test_damaged_images_are_said(data, draw):
    images = data.raw / "imagesTr"
    for path in images.iterdir():
        path.write_bytes(b"no image")
    pictures, notes = draw(images_in(images, ".nii.gz"))
    assert len(notes) == 3
    assert all("is drawn without its image: " in note and "cannot be read" in note for note in notes)
    assert "overlays.png" in pictures


def test_what_cannot_be_drawn_is_left_out(draw, monkeypatch):
    def fail(*_):
        raise MemoryError("several\nlines")

    monkeypatch.setattr("nnunetv2_tpmamba.comparison.overlays.draw_case_pictures", fail)
    assert draw({}) == ({}, ("The overlays are left out: several lines",))


def test_dice_stands_with_its_method(data, draw, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "nnunetv2_tpmamba.comparison.overlays.draw_case_pictures",
        lambda cases, _, path: (drawn.extend(cases), path.write_bytes(b"")),
    )
    draw({})
    assert len(drawn) == 3
    for shown in drawn:
        case = shown.title.split(": ")[1]
        moved = [np.roll(data.truth[case], shift * (1 + CASES.index(case) % 2), axis=2) for shift in (2, 1)]
        expected = [np.mean([dice(data.truth[case] == label, of == label) for label in (1, 2)]) for of in moved]
        assert list(shown.predictions) == [f"{m}, Dice {d:.3f}" for m, d in zip("ab", expected, strict=True)]
        assert all((shown.predictions[name] == of).all() for name, of in zip(shown.predictions, moved, strict=True))


def dice(truth, prediction):
    return 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())


def test_2d_images(data, tmp_path):
    for case in CASES[:4]:
        labels = data.truth[case][5]
        for folder, array in (("truth", labels), ("flat", np.roll(labels, 1, 0)), ("images", labels * 100)):
            (tmp_path / folder).mkdir(exist_ok=True)
            name = f"{case}_0000.png" if folder == "images" else f"{case}.png"
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / folder / name))
    description = {"channel_names": {"0": "grey"}, "labels": DESCRIPTION["labels"], "file_ending": ".png"}
    images = images_in(tmp_path / "images", ".png")
    pictures, notes = scored_and_drawn({"flat": tmp_path / "flat"}, tmp_path / "truth", description, images)
    assert notes == ()
    assert "overlays.png" in pictures
