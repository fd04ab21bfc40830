"""The scores of one prediction: as nnU-Net takes classes, regions and ignored voxels, in two and three dimensions."""

import math

import numpy as np
import pytest
import SimpleITK
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, load_summary_json
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.label_maps import SPACING, blob, write_labels

from nnunetv2_tpmamba.comparison.metrics import METRICS, Pair, score_pair
from nnunetv2_tpmamba.comparison.results import MEAN, Group, Results
from nnunetv2_tpmamba.comparison.surfaces import surface_scores
from nnunetv2_tpmamba.data.labels import Labels

PERFECT = {"Dice": 1.0, "NSD": 1.0, "HD95": 0.0, "ASSD": 0.0}


def metrics_of(scores):
    return {name: scores[name] for name in METRICS}


def surfaces_of(scores):
    return {name: scores[name] for name in METRICS if name != "Dice"}


def test_surfaces_are_cropped_without_a_change_and_volumes_are_in_ml(pair):
    scores = score_pair(pair(blob(1), blob(2), {"one": 1}))["one"]
    assert surfaces_of(scores) == pytest.approx(surface_scores(blob(1), blob(2), SPACING, 1.0), abs=1e-5)
    ml = np.prod(SPACING) / 1000
    assert [scores["truth_ml"], scores["prediction_ml"]] == pytest.approx([blob(1).sum() * ml, blob(2).sum() * ml])


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (0.3, 1.9), (1.0, 1.0), (2.5, 0.4)])
def test_two_dimensional_files_have_contours(tmp_path, spacing):
    masks, files = (blob(1)[7], blob(2)[7]), []
    for name, mask in zip("tp", masks, strict=True):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        files.append(tmp_path / f"{name}.nii.gz")
        SimpleITK.WriteImage(image, str(files[-1]))
    scores = score_pair(Pair(*files, {"one": 1}, None, {"one": 1.0}, SimpleITKIO))["one"]
    expected = surface_scores(*masks, spacing, 1.0)
    assert 0 < expected["NSD"] < 1
    assert surfaces_of(scores) == pytest.approx(expected, abs=1e-6)
    assert scores["truth_ml"] == pytest.approx(masks[0].sum() * math.prod(spacing) / 1000)  # 1 mm thick


def test_natural_images_have_contours(tmp_path):
    masks, files = (blob(1)[7], blob(2)[7]), [tmp_path / "t.png", tmp_path / "p.png"]
    for file, mask in zip(files, masks, strict=True):
        NaturalImage2DIO().write_seg(mask[None].astype(np.uint8), str(file), {})
    scores = score_pair(Pair(*files, {"one": 1}, None, {"one": 1.0}, NaturalImage2DIO))
    assert surfaces_of(scores["one"]) == surface_scores(*masks, (1, 1), 1.0)


def test_a_volume_of_one_thin_slice_stays_a_volume(pair):
    a, b = blob(1)[7:8], blob(2)[7:8]
    scores = score_pair(pair(a, b, {"one": 1}))
    assert surfaces_of(scores["one"]) == pytest.approx(surface_scores(a, b, SPACING, 1.0), abs=1e-5)


def test_absent_classes(pair):
    """One: in neither; two: in the truth only; three: in the prediction only."""
    truth, prediction = np.zeros((2, 8, 9, 10), np.uint8)
    truth[2:5, 2:5, 2:5], prediction[2:5, 2:5, 2:5] = 2, 3
    scores = score_pair(pair(truth, prediction, {"one": 1, "two": 2, "three": 3}))
    assert all(map(math.isnan, metrics_of(scores["one"]).values()))
    ml = 27 * np.prod(SPACING) / 1000
    missed = {"Dice": 0.0, "NSD": 0.0, "HD95": math.inf, "ASSD": math.inf}
    assert scores["one"] | {"truth_ml": 0.0, "prediction_ml": 0.0} == scores["one"]
    assert scores["two"] == pytest.approx(missed | {"truth_ml": ml, "prediction_ml": 0.0})
    assert scores["three"] == pytest.approx(missed | {"truth_ml": 0.0, "prediction_ml": ml})


def test_ignored_voxels_do_not_count(pair):
    truth = np.where(blob(3), 1, 0)
    prediction = truth.copy()
    truth[:7], prediction[:7] = 9, 2  # whatever is predicted there
    scores = score_pair(pair(truth, prediction, {"one": 1, "two": 2}, ignore_label=9))
    assert metrics_of(scores["one"]) == PERFECT
    assert all(map(math.isnan, metrics_of(scores["two"]).values()))


@pytest.mark.parametrize(
    "regions",
    [
        {"whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
        {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
        {"whole": [1, 2, 4, 7], "core": [2, 4], "enhancing": 4},  # 1 and 7 are in regions only
    ],
)
def test_what_nnunet_predicts_of_regions_passes(pair, regions):
    order = [1, 2, max(regions["whole"]) if regions["enhancing"] != 4 else 4]
    description = {"labels": {"background": 0, **regions}, "regions_class_order": order}
    manager = PlansManager({"label_manager": "LabelManager"}).get_label_manager(description)
    probabilities = np.random.default_rng(0).uniform(size=(3, 14, 25, 21)).astype(np.float32)
    prediction = np.asarray(manager.convert_probabilities_to_segmentation(probabilities))
    assert set(np.unique(prediction)) == {0, *order}
    truth = np.random.default_rng(1).choice([0, *regions["whole"]], prediction.shape)
    scores = score_pair(pair(truth, prediction, dict(Labels.of(description).classes)))
    assert all(0 < of_class["Dice"] < 1 for of_class in scores.values())


def test_regions_are_the_union_of_their_labels(pair):
    truth = np.where(blob(3), np.where(blob(4), 1, 2), 0)
    swapped = np.where(truth == 1, 2, np.where(truth == 2, 1, 0))
    scores = score_pair(pair(truth, swapped, {"both": (1, 2), "one": 1}))
    assert metrics_of(scores["both"]) == PERFECT
    assert scores["one"]["Dice"] == 0


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("ignore_label", [None, 4])
def test_means_are_those_of_nnunet_to_the_last_digit(tmp_path, absent, ignore_label):
    """Three classes, seven cases; with ``absent``, class 2 is missing in some of them."""
    generator = np.random.default_rng(5)
    scores = {}
    for index in range(7):
        truth = np.where(blob(index), generator.integers(1, (ignore_label or 3) + 1, blob(0).shape), 0)
        prediction = np.where(blob(index + 20), generator.integers(1, 4, truth.shape), 0)
        if absent and index % 3 == 0:
            truth[truth == 2], prediction[prediction == 2] = 0, 0
        files = [
            write_labels(tmp_path / name / f"case{index}.nii.gz", a) for name, a in (("t", truth), ("p", prediction))
        ]
        classes = {"one": 1, "two": 2, "three": 3}
        scores[f"case{index}"] = score_pair(
            Pair(*files, classes, ignore_label, dict.fromkeys(classes, 1.0), SimpleITKIO)
        )
    summary = tmp_path / "summary.json"
    compute_metrics_on_folder(
        str(tmp_path / "t"), str(tmp_path / "p"), str(summary), SimpleITKIO(), ".nii.gz", [1, 2, 3], ignore_label, 1
    )
    theirs = load_summary_json(str(summary))
    results = Results("", ("m",), tuple(classes), {}, (Group("", ("0",)),), {}, {("m", "0", 1): scores})
    ours = results.of_fold("m", "0", "Dice")
    assert ours == {name: theirs["mean"][value]["Dice"] for name, value in classes.items()} | {
        MEAN: theirs["foreground_mean"]["Dice"]
    }
    for case in theirs["metric_per_case"]:
        name = case["prediction_file"].rpartition("/")[2].removesuffix(".nii.gz")
        expected = [case["metrics"][value]["Dice"] for value in classes.values()]
        assert np.array_equal(
            [of_class["Dice"] for of_class in scores[name].values()], np.array(expected, float), equal_nan=True
        )
