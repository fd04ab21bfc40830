"""Prediction with our trainer by nnU-Net's real commands and its Python, on images of any geometry."""

import resource
import shutil

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from support.images import assert_same_geometry, read_array, read_probabilities, store_as, write_image
from support.nnunet import ON_CPU, model_folder
from support.raw_datasets import write_raw_dataset

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

NAME, TRAINER = "Dataset920_Blobs", "nnUNetTrainerTPMamba_tiny_short"
CASES = [f"case{i}" for i in range(5)]
SHAPE, SPACING = (12, 24, 24), (3.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def trained(module_nnunet):
    """Two folds."""
    nnunet = module_nnunet
    write_raw_dataset(nnunet.raw / NAME, CASES, SHAPE, SPACING)
    nnunet.plan(NAME)
    for fold in (0, 1):
        nnunet.train(NAME, TRAINER, fold=fold)
    nnunet.images = nnunet.raw / NAME / "imagesTr"
    nnunet.model = model_folder(nnunet.results, NAME, TRAINER)
    return nnunet


def predict(nnunet, output, *options, images=None, trainer=TRAINER, **how):
    return nnunet.predict(NAME, trainer, images or nnunet.images, output, *options, **how)


@pytest.fixture(scope="module")
def predicted(trained, tmp_path_factory):
    """Fold 0's predictions of all cases, with probabilities."""
    return predict(trained, tmp_path_factory.mktemp("fold_0"), "--save_probabilities")


def probabilities(folder, case):
    return read_probabilities(folder / f"{case}.npz")


def names(folder):
    return sorted(path.name for path in folder.glob("*.nii.gz"))


def assert_same_labels(one, other):
    assert names(one) == names(other)
    for name in names(one):
        np.testing.assert_array_equal(read_array(one / name), read_array(other / name), err_msg=name)


def test_folds_are_averaged(trained, predicted, tmp_path):
    """As nnU-Net does it: the mean of the logits, which is the normalised product of the probabilities."""
    second = predict(trained, tmp_path / "1", "--save_probabilities", folds=(1,))
    both = predict(trained, tmp_path / "both", "--save_probabilities", folds=(0, 1))
    for case in CASES:
        product = np.sqrt(probabilities(predicted, case) * probabilities(second, case))
        np.testing.assert_allclose(probabilities(both, case), product / product.sum(0), atol=1e-3)


def test_labels_are_the_most_probable(predicted, tmp_path):
    for case in CASES:
        store_as(predicted / f"{case}.nii.gz", tmp_path / "turned.nii.gz", "RAS")  # as the image was read
        np.testing.assert_array_equal(probabilities(predicted, case).argmax(0), read_array(tmp_path / "turned.nii.gz"))


def test_step_size_changes_what_is_averaged(trained, tmp_path):
    """On an image larger than the patch; mirroring changes nothing, as this trainer was told not to mirror."""
    images = tmp_path / "images"
    images.mkdir()
    array = np.random.default_rng(0).normal(0, 100, (60, 160, 160))
    write_image(array, images / "large_0000.nii.gz", spacing=(5, 2, 2))
    options = {"as it is": (), "large steps": ("-step_size", 1), "not mirrored": ("--disable_tta",)}
    usual, large_steps, not_mirrored = (
        probabilities(predict(trained, tmp_path / name, "--save_probabilities", *given, images=images), "large")
        for name, given in options.items()
    )
    assert large_steps.shape == usual.shape
    assert 0 < np.abs(large_steps - usual).mean() < 0.1
    np.testing.assert_array_equal(not_mirrored, usual)


def test_parts_together_are_the_whole(trained, predicted, tmp_path):
    for part in (0, 1):
        predict(trained, tmp_path, "-num_parts", 2, "-part_id", part)
        assert len(names(tmp_path)) == (3, 5)[part]
    assert_same_labels(tmp_path, predicted)


def test_continuing_makes_what_is_missing_and_nothing_else(trained, predicted, tmp_path):
    shutil.copytree(predicted, tmp_path, dirs_exist_ok=True)
    kept, missing = tmp_path / "case0.nii.gz", tmp_path / "case3.nii.gz"
    missing.unlink()
    kept.write_bytes(b"kept")
    predict(trained, tmp_path, "--continue_prediction")
    assert kept.read_bytes() == b"kept"
    np.testing.assert_array_equal(read_array(missing), read_array(predicted / missing.name))


def test_from_a_model_folder_that_was_moved(trained, predicted, tmp_path):
    shutil.copytree(trained.model, tmp_path / "moved")
    trained.run(
        *("nnUNetv2_predict_from_modelfolder", "-i", trained.images, "-o", tmp_path / "out", "-m", tmp_path / "moved"),
        *("-f", 0, "-npp", 1, "-nps", 1, *ON_CPU),
        nnUNet_results=str(tmp_path),
    )
    assert_same_labels(tmp_path / "out", predicted)


def test_python_api_from_files_and_from_arrays(trained, predicted, tmp_path, monkeypatch):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    monkeypatch.setenv("nnUNet_extTrainer", trained.environment["nnUNet_extTrainer"])
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained.model), (0,), "checkpoint_final.pth")
    files = [[str(trained.images / f"{case}_0000.nii.gz")] for case in CASES]
    outputs = [str(tmp_path / f"{case}.nii.gz") for case in CASES]
    predictor.predict_from_files(files, outputs, num_processes_preprocessing=1, num_processes_segmentation_export=1)
    assert_same_labels(tmp_path, predicted)
    reader = predictor.plans_manager.image_reader_writer_class()  # turns the array, which an own reader would not
    array, properties = reader.read_images(files[0])
    labels = predictor.predict_single_npy_array(array, properties, None, None, False)
    reader.write_seg(labels, str(tmp_path / "turned_back.nii.gz"), properties)
    np.testing.assert_array_equal(read_array(tmp_path / "turned_back.nii.gz"), read_array(predicted / "case0.nii.gz"))


GEOMETRIES = {
    "flipped": {"direction": np.diag([-1, -1, 1])},
    "sagittal": {"direction": [[0, 0, 1], [1, 0, 0], [0, 1, 0]]},
    "coronal": {"direction": [[1, 0, 0], [0, 0, 1], [0, -1, 0]]},
    "oblique": {"direction": Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()},
    "mirrored": {"direction": np.diag([1, 1, -1]), "origin": (-250.5, 1000.25, 3.0)},
    "fine": {"spacing": (0.5, 0.5, 0.5)},
    "thick": {"spacing": (8, 0.5, 0.5)},
    "coarse": {"spacing": (8, 8, 8)},
    "one slice": {"shape": (1, 40, 40)},
    "one voxel wide": {"shape": (20, 30, 1), "spacing": (3, 2, 3)},
    "smaller than a patch": {"shape": (3, 4, 5)},
    "long": {"shape": (300, 20, 20)},
}


def test_results_have_the_geometry_of_any_image(trained, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name, geometry in GEOMETRIES.items():
        geometry = {"shape": (16, 20, 24), "spacing": SPACING} | geometry
        shape = geometry.pop("shape")
        write_image(np.random.default_rng(0).normal(0, 100, shape), images / f"{name}_0000.nii.gz", **geometry)
    predict(trained, tmp_path / "out", "--disable_tta", images=images)
    assert len(names(tmp_path / "out")) == len(GEOMETRIES)
    for name in GEOMETRIES:
        assert_same_geometry(tmp_path / "out" / f"{name}.nii.gz", images / f"{name}_0000.nii.gz")
        assert set(np.unique(read_array(tmp_path / "out" / f"{name}.nii.gz"))) <= {0, 1, 2}


def test_a_large_ct_is_predicted_in_bounded_memory(trained, tmp_path):
    """400 slices of 512 x 512 at the paper's spacing and patch size: no process takes more than 8 GB."""
    images = tmp_path / "images"
    images.mkdir()
    write_image(np.zeros((400, 512, 512), np.int16), images / "large_0000.nii.gz", spacing=(1, 0.8, 0.8))
    fine = "nnUNetTrainerTPMamba_tiny_fine"
    trained.train(NAME, fine)
    options = ("--disable_tta", "-step_size", 1)
    predict(trained, tmp_path / "out", *options, images=images, trainer=fine, timeout=1700)
    assert_same_geometry(tmp_path / "out" / "large.nii.gz", images / "large_0000.nii.gz")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"\npeak of one process: {peak / 1e9:.1f} GB")
    assert peak < 8e9
