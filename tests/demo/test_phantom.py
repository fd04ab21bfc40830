"""The synthetic patients have the anatomy and the HU of adults, and no two are alike."""

import json
from functools import cache

import numpy as np
import pytest
import SimpleITK
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from scipy.ndimage import binary_dilation, binary_erosion, label

from nnunetv2_tpmamba.demo.phantom import LABELS, Scan, abdomen, write_dataset

SEEDS = (0, 1, 2, 3)
ORGANS = [name for name in LABELS if name != "background"]


@cache
def scan_of(seed: int) -> Scan:
    return abdomen(seed)


def mask(scan: Scan, organ: str) -> np.ndarray:
    return scan.label == LABELS[organ]


def extent_mm(scan: Scan, organ: str) -> np.ndarray:
    """Size of the organ's bounding box along z, y, x."""
    voxels = np.argwhere(mask(scan, organ))
    return (voxels.max(0) - voxels.min(0) + 1) * scan.spacing


def center_mm(scan: Scan, organ: str) -> np.ndarray:
    """World position x, y, z as a reader of the NIfTI file finds it."""
    image = SimpleITK.GetImageFromArray(scan.label)
    image.SetSpacing(scan.spacing[::-1])
    image.SetOrigin(scan.origin)
    z, y, x = np.argwhere(mask(scan, organ)).mean(0)
    return np.array(image.TransformContinuousIndexToPhysicalPoint((float(x), float(y), float(z))))


def test_the_same_seed_gives_the_same_scan():
    first, second = abdomen(7), abdomen(7)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.label, second.label)
    assert (first.spacing, first.origin) == (second.spacing, second.origin)


def test_another_seed_gives_another_patient():
    scans = [scan_of(seed) for seed in SEEDS]
    assert len({scan.spacing for scan in scans}) == len(SEEDS)
    volumes = [[mask(scan, organ).sum() * np.prod(scan.spacing) for organ in ORGANS] for scan in scans]
    assert np.all(np.std(volumes, axis=0) / np.mean(volumes, axis=0) > 0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_voxels_are_anisotropic_and_few_enough_for_a_demo(seed):
    scan = scan_of(seed)
    between, rows, columns = scan.spacing
    assert rows == columns
    assert 1.2 <= rows <= 1.9
    assert 2.5 <= between <= 5
    assert between / rows > 1.3
    assert scan.image.shape == scan.label.shape
    assert 1e6 < scan.image.size < 4e6
    assert scan.image.dtype == np.int16


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("organ", "low", "high"),  # ml
    [
        ("liver", 900, 2000),
        ("spleen", 70, 350),
        ("kidney_right", 90, 250),
        ("kidney_left", 90, 250),
        ("stomach", 150, 700),
        ("aorta", 35, 150),
    ],
)
def test_organ_volumes_are_those_of_adults(seed, organ, low, high):
    scan = scan_of(seed)
    assert low < mask(scan, organ).sum() * np.prod(scan.spacing) / 1000 < high


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("organ", "axis", "low", "high"),  # axis z, y, x; mm
    [
        ("liver", 2, 140, 215),
        ("liver", 1, 125, 190),
        ("spleen", 0, 60, 130),
        ("kidney_right", 0, 85, 130),
        ("kidney_left", 0, 85, 130),
        ("kidney_right", 2, 38, 75),
        ("kidney_left", 2, 38, 75),
    ],
)
def test_organ_sizes_are_those_of_adults(seed, organ, axis, low, high):
    assert low < extent_mm(scan_of(seed), organ)[axis] < high


@pytest.mark.parametrize("seed", SEEDS)
def test_the_aorta_runs_through_all_slices_with_its_diameter(seed):
    scan = scan_of(seed)
    areas = mask(scan, "aorta").sum(axis=(1, 2)) * np.prod(scan.spacing[1:])
    diameters = 2 * np.sqrt(areas / np.pi)
    assert diameters.min() > 14
    assert 17 < np.median(diameters) < 28
    assert diameters.max() < 32


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_are_on_their_side_of_the_body(seed):
    """DICOM and ITK: x grows to the patient's left, y to the back, z to the head."""
    scan = scan_of(seed)
    at = {organ: center_mm(scan, organ) for organ in ORGANS}
    for on_the_right in ("liver", "kidney_right"):
        for on_the_left in ("spleen", "kidney_left", "stomach"):
            assert at[on_the_right][0] < at["aorta"][0] < at[on_the_left][0]
    for kidney in ("kidney_right", "kidney_left"):
        assert at["stomach"][1] < at["aorta"][1] < at[kidney][1]
    assert at["liver"][2] > at["kidney_right"][2]
    assert at["spleen"][2] > at["kidney_left"][2]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("organ", "low", "high"),
    [
        ("liver", 60, 150),
        ("spleen", 75, 165),
        ("kidney_right", 110, 220),
        ("kidney_left", 110, 220),
        ("aorta", 100, 240),
    ],
)
def test_organs_have_the_hu_of_an_enhanced_ct(seed, organ, low, high):
    scan = scan_of(seed)
    inside = binary_erosion(mask(scan, organ))
    assert low < np.median(scan.image[inside]) < high
    assert 8 < scan.image[inside].std() < 80


def test_hu_alone_does_not_tell_liver_from_spleen():
    medians = {
        organ: [np.median(scan_of(seed).image[mask(scan_of(seed), organ)]) for seed in SEEDS]
        for organ in ("liver", "spleen")
    }
    assert max(medians["liver"]) > min(medians["spleen"])


@pytest.mark.parametrize("seed", SEEDS)
def test_surroundings_have_their_hu(seed):
    image = scan_of(seed).image
    air, fat, bone = image < -900, (image > -140) & (image < -60), image > 300
    assert image.min() >= -1024
    assert air.mean() > 0.1
    assert fat.mean() > 0.05
    assert 0.005 < bone.mean() < 0.1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("organ", ORGANS)
def test_organs_are_in_one_piece(seed, organ):
    pieces, _ = label(mask(scan_of(seed), organ))
    sizes = np.bincount(pieces.ravel())[1:]
    assert sizes.max() / sizes.sum() > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_borders_are_soft(seed):
    """The voxels around a kidney's border in fat lie between the two tissues, noise aside."""
    scan = scan_of(seed)
    kidney = mask(scan, "kidney_left")
    plane = np.zeros((3, 3, 3), bool)
    plane[1, 1, :] = plane[1, :, 1] = True
    inner = kidney & ~binary_erosion(kidney, plane)
    outer = binary_dilation(kidney, plane) & ~kidney
    inside = np.median(scan.image[binary_erosion(kidney, iterations=2)])
    fat = -100
    assert fat + 40 < np.median(scan.image[inner]) < inside - 15
    assert fat + 15 < np.median(scan.image[outer]) < inside - 60


def test_nnunet_accepts_the_dataset(tmp_path, capsys):
    folder = tmp_path / "Dataset700_Phantom"
    told = []
    write_dataset(folder, num_training=2, num_test=1, seed=4, on_case=told.append)
    assert told == ["phantom_004", "phantom_005", "phantom_006"]
    verify_dataset_integrity(str(folder), num_processes=1)
    assert "Warning" not in capsys.readouterr().out
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2
    assert [path.name for path in (folder / "labelsTs").iterdir()] == ["phantom_006.nii.gz"]

    image = SimpleITK.ReadImage(str(folder / "imagesTr" / "phantom_004_0000.nii.gz"))
    scan = abdomen(4)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), scan.image)
    assert image.GetSpacing() == pytest.approx(scan.spacing[::-1])
    assert image.GetOrigin() == pytest.approx(scan.origin)
