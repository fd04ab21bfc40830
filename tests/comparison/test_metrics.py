"""Dice and surface Dice of one prediction, and label maps that cannot be compared."""

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, load_summary_json
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.label_maps import SPACING, blob, write_labels
from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

from nnunetv2_tpmamba.comparison.labels import Labels
from nnunetv2_tpmamba.comparison.metrics import Pair, reader_of, score_pair, surface_dice
from nnunetv2_tpmamba.comparison.results import MEAN, Group, Results


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [0.5, 1.0, 3.0])
def test_surface_dice_is_that_of_surface_distance(seed, tolerance):
    a, b = blob(seed), blob(seed + 100)
    expected = compute_surface_dice_at_tolerance(compute_surface_distances(a, b, SPACING), tolerance)
    assert surface_dice(a, b, SPACING, tolerance) == expected


@pytest.mark.parametrize("seed", range(6))
def test_surface_dice_is_that_of_monai(seed):
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    generator = np.random.default_rng(seed)
    spacing = tuple(generator.uniform(0.5, 4, 3))
    a, b = blob(seed), blob(seed + 50)
    metric = monai.SurfaceDiceMetric(class_thresholds=[1.0], include_background=True, use_subvoxels=True)
    expected = metric(torch.from_numpy(b)[None, None], torch.from_numpy(a)[None, None], spacing=spacing)
    assert surface_dice(a, b, spacing, 1.0) == pytest.approx(float(expected), abs=1e-6)


def test_surface_dice_at_the_border_of_the_image():
    everything = np.ones((4, 5, 6), bool)
    assert surface_dice(everything, everything, SPACING, 1.0) == 1.0
    one_voxel = np.zeros((4, 5, 6), bool)
    one_voxel[0, 0, 0] = True
    assert surface_dice(one_voxel, one_voxel, SPACING, 1.0) == 1.0
    assert surface_dice(one_voxel, one_voxel[::-1], SPACING, 1.0) == 0.0


def test_two_dimensional_images_have_contours():
    a, b = blob(1)[7:8], blob(2)[7:8]
    expected = compute_surface_dice_at_tolerance(compute_surface_distances(a[0], b[0], SPACING[1:]), 1.0)
    assert surface_dice(a, b, (999, *SPACING[1:]), 1.0) == expected


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (0.3, 1.9), (1.0, 1.0), (2.5, 0.4)])
def test_two_dimensional_files_have_contours(tmp_path, spacing):
    masks, files = (blob(1)[7], blob(2)[7]), []
    for name, mask in zip("tp", masks, strict=True):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        files.append(tmp_path / f"{name}.nii.gz")
        SimpleITK.WriteImage(image, str(files[-1]))
    scores = score_pair(Pair(*files, {"one": 1}, None, {"one": 1.0}, SimpleITKIO))
    expected = compute_surface_dice_at_tolerance(compute_surface_distances(*masks, spacing), 1.0)
    assert 0 < expected < 1
    assert scores["one"][1] == pytest.approx(expected, abs=1e-6)


def test_natural_images_have_contours(tmp_path):
    masks, files = (blob(1)[7], blob(2)[7]), [tmp_path / "t.png", tmp_path / "p.png"]
    for file, mask in zip(files, masks, strict=True):
        NaturalImage2DIO().write_seg(mask[None].astype(np.uint8), str(file), {})
    scores = score_pair(Pair(*files, {"one": 1}, None, {"one": 1.0}, NaturalImage2DIO))
    expected = compute_surface_dice_at_tolerance(compute_surface_distances(*masks, (1, 1)), 1.0)
    assert scores["one"][1] == expected


def test_a_volume_of_one_thin_slice_stays_a_volume():
    a, b = blob(1)[7:8], blob(2)[7:8]
    expected = compute_surface_dice_at_tolerance(compute_surface_distances(a, b, SPACING), 1.0)
    assert surface_dice(a, b, SPACING, 1.0) == expected


def test_absent_classes(pair):
    """One: in neither; two: in the truth only; three: in the prediction only."""
    truth, prediction = np.zeros((2, 8, 9, 10), np.uint8)
    truth[2:5, 2:5, 2:5], prediction[2:5, 2:5, 2:5] = 2, 3
    scores = score_pair(pair(truth, prediction, {"one": 1, "two": 2, "three": 3}))
    assert all(map(math.isnan, scores["one"]))
    assert scores["two"] == scores["three"] == (0.0, 0.0)


def test_ignored_voxels_do_not_count(pair):
    truth = np.where(blob(3), 1, 0)
    prediction = truth.copy()
    truth[:7], prediction[:7] = 9, 2  # whatever is predicted there
    scores = score_pair(pair(truth, prediction, {"one": 1, "two": 2}, ignore_label=9))
    assert scores["one"] == (1.0, 1.0)
    assert all(map(math.isnan, scores["two"]))


@pytest.mark.parametrize("file", ["t", "p"])
def test_other_labels_are_refused_in_truth_and_prediction(pair, file):
    maps = {"t": np.where(blob(1), 1, 0), "p": np.where(blob(2), 1, 0)}
    maps[file][blob(3)] = 11
    maps[file][0, 0, 0] = 12
    message = rf"{file}.nii.gz holds the values 11, 12; dataset.json names 0, 1, 2, 9: these are other labels"
    with pytest.raises(ValueError, match=message):
        score_pair(pair(maps["t"], maps["p"], ignore_label=9))


@pytest.mark.parametrize("bad", [np.nan, 0.5])
def test_a_map_of_probabilities_is_no_label_map(pair, tmp_path, bad):
    made = replace(pair(blob(1), blob(2)), prediction=tmp_path / "p.mha")  # of NIfTI, ITK makes NaN 0
    image = SimpleITK.GetImageFromArray(np.where(blob(2), np.float32(bad), np.float32(0)))
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(made.prediction))
    with pytest.raises(ValueError, match=rf"p.mha holds the values {bad}; .* no label map"):
        score_pair(made)
    values = np.linspace(0, 1, 25 * 21 * 14, dtype=np.float32).reshape(14, 25, 21)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(made.prediction))
    with pytest.raises(ValueError, match=r"\.\.\. \(7348 such values\)"):
        score_pair(made)


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
    assert all(0 < dice < 1 for dice, _ in scores.values())


def test_regions_are_the_union_of_their_labels(pair):
    truth = np.where(blob(3), np.where(blob(4), 1, 2), 0)
    swapped = np.where(truth == 1, 2, np.where(truth == 2, 1, 0))
    scores = score_pair(pair(truth, swapped, {"both": (1, 2), "one": 1}))
    assert scores["both"] == (1.0, 1.0)
    assert scores["one"][0] == 0


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"spacing": (2.5, 0.8, 1.4)}, "another spacing.*2.5 0.8 1.4 instead of 2.5 0.8 1.3"),
        ({"origin": (0.0, 5.0, 0.0)}, "another origin"),
    ],
)
def test_other_geometry_is_refused(pair, geometry, message):
    with pytest.raises(ValueError, match=message):
        score_pair(pair(blob(1), blob(1), **geometry))


def test_other_shape_is_refused(pair):
    with pytest.raises(ValueError, match=r"another shape .*: 13 25 21 instead of 14 25 21"):
        score_pair(pair(blob(1), blob(1)[1:]))


@pytest.mark.parametrize("part", [0.4, 0.95])
@pytest.mark.parametrize("file", ["t", "p"])
def test_a_file_that_was_cut_off_is_named(pair, file, part):
    """ITK reads it without an error, and what is missing as background."""
    noisy = np.random.default_rng(0).integers(0, 3, (14, 25, 21))
    made = pair(noisy, noisy)
    damaged = made.truth if file == "t" else made.prediction
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: int(part * len(whole))])
    assert SimpleITKIO().read_seg(str(damaged))[0].shape == (1, 14, 25, 21)
    with pytest.raises(ValueError, match=rf"{file}.nii.gz cannot be read \(.*ended before.*\); make it again"):
        score_pair(made)


def test_the_reader_is_that_of_the_first_file_that_can_be_read(pair, tmp_path, capsys):
    made = pair(blob(1), blob(2))
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"no image")
    description = {"file_ending": ".nii.gz"}
    assert reader_of(description, [damaged, made.truth]) is reader_of(description, [damaged]) is SimpleITKIO
    assert "Traceback" not in "".join(capsys.readouterr())
    with pytest.raises(ValueError, match=r"file_ending \.xyz in dataset.json: nnU-Net has no reader"):
        reader_of({"file_ending": ".xyz"}, [made.truth])


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
    results = Results("", ("m",), tuple(classes), {}, (Group("", ("0",)),), {}, {("m", "0"): scores})
    ours = results.of_fold("m", "0", "Dice")
    assert ours == {name: theirs["mean"][value]["Dice"] for name, value in classes.items()} | {
        MEAN: theirs["foreground_mean"]["Dice"]
    }
    for case in theirs["metric_per_case"]:
        name = case["prediction_file"].rpartition("/")[2].removesuffix(".nii.gz")
        expected = [case["metrics"][value]["Dice"] for value in classes.values()]
        assert np.array_equal([dice for dice, _ in scores[name].values()], np.array(expected, float), equal_nan=True)
