"""NSD, HD95 and ASSD of two masks, against the package that measures, MONAI, and values found by hand."""

import math

import numpy as np
import pytest
from support.label_maps import SPACING, blob
from surface_distance import compute_robust_hausdorff, compute_surface_dice_at_tolerance, compute_surface_distances

from nnunetv2_tpmamba.comparison.surfaces import implementation, surface_scores

DIRECTIONS = (("gt_to_pred", "gt"), ("pred_to_gt", "pred"))
VOXEL = np.linalg.norm(SPACING)  # mm, its diagonal


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [0.5, 3.0])
def test_the_scores_are_those_of_surface_distance(seed, tolerance):
    a, b = blob(seed), blob(seed + 100)
    distances = compute_surface_distances(a, b, SPACING)
    both = [(distances[f"distances_{d}"], distances[f"surfel_areas_{of}"]) for d, of in DIRECTIONS]
    scores = surface_scores(a, b, SPACING, tolerance)
    assert scores["NSD"] == compute_surface_dice_at_tolerance(distances, tolerance)
    assert scores["HD95"] == compute_robust_hausdorff(distances, 95)
    mean = sum((d * area).sum() for d, area in both) / sum(area.sum() for _, area in both)
    assert scores["ASSD"] == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_surface_dice_is_that_of_monai(seed):
    monai = pytest.importorskip("monai.metrics")
    spacing = tuple(np.random.default_rng(seed).uniform(0.5, 4, 3))
    a, b = blob(seed), blob(seed + 50)
    metric = monai.SurfaceDiceMetric(class_thresholds=[1.0], include_background=True, use_subvoxels=True)
    expected = metric(*as_monai(a, b), spacing=spacing)
    assert surface_scores(a, b, spacing, 1.0)["NSD"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_distances_are_those_of_monai_up_to_a_voxel(seed):
    monai = pytest.importorskip("monai.metrics")
    a, b = blob(seed), blob(seed + 50)
    scores = surface_scores(a, b, SPACING, 1.0)
    options = {"include_background": True, "spacing": SPACING}
    hd95 = monai.compute_hausdorff_distance(*as_monai(a, b), percentile=95, **options)
    assd = monai.compute_average_surface_distance(*as_monai(a, b), symmetric=True, **options)
    assert scores["HD95"] == pytest.approx(float(hd95), abs=VOXEL)
    assert scores["ASSD"] == pytest.approx(float(assd), abs=VOXEL / 4)


def as_monai(truth, prediction):
    """The prediction and the truth as MONAI takes them."""
    torch = pytest.importorskip("torch")
    return [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]


@pytest.mark.parametrize("apart", [1, 4])
def test_two_single_voxels_by_hand_and_as_monai(apart):
    """Of the eight corners of each, four are ``apart`` voxels from the other's nearest corner, four one voxel less."""
    a, b = np.zeros((2, 8, 5, 5), bool)
    a[1, 2, 2] = b[1 + apart, 2, 2] = True
    scores = surface_scores(a, b, SPACING, 1.0)
    assert scores["HD95"] == apart * SPACING[0]
    assert scores["ASSD"] == pytest.approx((apart - 0.5) * SPACING[0])
    assert scores["NSD"] == (0.5 if apart == 1 else 0)
    monai = pytest.importorskip("monai.metrics")
    theirs = monai.compute_hausdorff_distance(*as_monai(a, b), True, percentile=95, spacing=SPACING)
    assert scores["HD95"] == float(theirs)


def test_distances_are_symmetric_and_in_mm():
    a, b = blob(1), blob(2)
    once, swapped = surface_scores(a, b, SPACING, 1.0), surface_scores(b, a, SPACING, 1.0)
    doubled = surface_scores(a, b, tuple(2 * mm for mm in SPACING), 2.0)
    for name in ("HD95", "ASSD"):
        assert swapped[name] == pytest.approx(once[name])
        assert doubled[name] == pytest.approx(2 * once[name])
    assert doubled["NSD"] == pytest.approx(once["NSD"])


def test_at_the_border_of_the_image():
    everything = np.ones((4, 5, 6), bool)
    assert surface_scores(everything, everything, SPACING, 1.0) == {"NSD": 1.0, "HD95": 0.0, "ASSD": 0.0}
    one_voxel = np.zeros((4, 5, 6), bool)
    one_voxel[0, 0, 0] = True
    assert surface_scores(one_voxel, one_voxel, SPACING, 1.0) == {"NSD": 1.0, "HD95": 0.0, "ASSD": 0.0}
    assert surface_scores(one_voxel, one_voxel[::-1], SPACING, 1.0)["NSD"] == 0.0


def test_contours_of_two_dimensional_masks():
    a, b = blob(1)[7], blob(2)[7]
    distances = compute_surface_distances(a, b, SPACING[1:])
    scores = surface_scores(a, b, SPACING[1:], 1.0)
    assert scores["NSD"] == compute_surface_dice_at_tolerance(distances, 1.0)
    assert scores["HD95"] == compute_robust_hausdorff(distances, 95)


def test_empty_masks():
    nothing, something = np.zeros_like(blob(1)), blob(1)
    for masks in ((nothing, something), (something, nothing)):
        assert surface_scores(*masks, SPACING, 1.0) == {"NSD": 0.0, "HD95": math.inf, "ASSD": math.inf}
    assert all(map(math.isnan, surface_scores(nothing, nothing, SPACING, 1.0).values()))


def test_the_package_and_its_version_are_named():
    assert implementation().split()[0] == "surface-distance"
    assert implementation().split()[1][0].isdecimal()
