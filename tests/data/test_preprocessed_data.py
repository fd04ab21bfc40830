"""What the preprocessed data hold: images, labels and sizes as the paper and nnU-Net's validation need them."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.plans import DATASET_JSON, stock_plans
from support.preprocessed_datasets import ENDINGS, Dataset, contents

from nnunetv2_tpmamba.data.cases import training_cases


class TestTheData:
    @pytest.fixture(scope="class")
    def real(self, real_data, tmp_path_factory):
        """Three head and neck CTs with the stock data already there, and one of them as if scanned in thick slices."""
        source = real_data / "Dataset702_HeadNeckCrop"
        dataset_json = json.loads((source / "dataset.json").read_text())
        real = Dataset(tmp_path_factory.mktemp("real"), dataset_json).create()
        for label in sorted((source / "labelsTr").iterdir())[:3]:
            shutil.copyfile(label, real.raw / "labelsTr" / label.name)
            image = label.name.replace(".nii.gz", "_0000.nii.gz")
            shutil.copyfile(source / "imagesTr" / image, real.raw / "imagesTr" / image)
        for folder in ("imagesTr", "labelsTr"):
            path = min((real.raw / folder).iterdir())
            nifti = SimpleITK.ReadImage(str(path))
            nifti.SetSpacing((1.5, 1.5, 6))
            SimpleITK.WriteImage(nifti, str(path))
        stock = real.preprocessed / "nnUNetPlans_3d_fullres"
        stock.mkdir()
        for ending in ENDINGS:
            (stock / f"case{ending}").write_bytes(b"stock data")
        real.before = contents(real.preprocessed)
        real.ensure()
        real.cases = sorted(training_cases(real.raw, dataset_json))
        return real

    def test_values_are_in_0_to_1(self, real):
        for case in real.cases:
            data, _, _ = real.load(case)
            assert data.min() == 0
            assert data.max() == 1

    def test_size_is_in_mm(self, real):
        for case, files in training_cases(real.raw, real.dataset_json).items():
            nifti = SimpleITK.ReadImage(files.images[0])
            millimetres = [round(n * mm) for n, mm in zip(nifti.GetSize(), nifti.GetSpacing(), strict=True)]
            data, seg, properties = real.load(case)
            assert data.shape == seg.shape == (1, *reversed(millimetres))
            assert properties["shape_before_cropping"] == nifti.GetSize()[::-1]

    def test_labels_are_kept(self, real):
        for case, files in training_cases(real.raw, real.dataset_json).items():
            raw = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(files.label))
            _, seg, properties = real.load(case)
            assert set(np.unique(seg)) - {-1} == set(np.unique(raw))
            for label in range(1, 4):
                places = properties["class_locations"][label]
                assert (seg[tuple(places.T)] == label).all()

    def test_no_slice_of_a_thick_scan_is_repeated(self, real):
        data, _, _ = real.load(real.cases[0])
        assert data.shape[1] > 100
        assert (np.abs(np.diff(data[0], axis=0)).max(axis=(1, 2)) > 0).mean() > 0.95

    def test_equal_what_stock_prediction_computes(self, real):
        case = real.cases[-1]
        files = training_cases(real.raw, real.dataset_json)[case]
        plans_manager = PlansManager(real.plans)
        settings = plans_manager.get_configuration("3d_fullres")
        predictor_s, _, _ = settings.preprocessor_class(verbose=False).run_case(
            files.images, None, plans_manager, settings, real.dataset_json
        )
        np.testing.assert_array_equal(real.load(case)[0], predictor_s)

    def test_what_was_there_is_untouched(self, real):
        after = contents(real.preprocessed)
        assert {path: after[path] for path in real.before} == real.before
        assert {path.parts[0] for path in after.keys() - real.before.keys()} == {real.folder.name, "gt_segmentations"}

    def test_labels_are_copied_for_validation(self, real):
        assert contents(real.preprocessed / "gt_segmentations") == contents(real.raw / "labelsTr")

    def test_extreme_images(self, tmp_path, sequential):
        dataset = Dataset(tmp_path).create()
        one_slice = np.linspace(-1000, 1000, 400).reshape(1, 20, 20)
        dataset.add_case("air", np.full((8, 10, 9), -1024))
        dataset.add_case("water", np.zeros((8, 10, 9)))
        dataset.add_case("one_slice", one_slice, label=np.ones(one_slice.shape, np.uint8), spacing=(1, 1, 5))
        dataset.add_case("one_voxel", np.full((1, 1, 1), 25), label=np.ones((1, 1, 1), np.uint8))
        dataset.add_case("no_foreground", label=np.zeros((8, 10, 9), np.uint8))
        dataset.ensure()
        assert np.unique(dataset.load("air")[0]) == [0]
        np.testing.assert_allclose(dataset.load("water")[0], 200 / 450, rtol=1e-6)
        assert dataset.load("one_slice")[0].shape == (1, 5, 20, 20)
        assert dataset.load("one_voxel")[0].shape == (1, 2, 2, 2)
        assert len(dataset.load("no_foreground")[2]["class_locations"][1]) == 0

    def test_several_channels(self, tmp_path, sequential):
        dataset_json = {
            "channel_names": {"0": "CT", "1": "MRI"},
            "labels": {"background": 0, "organ": 1},
            "file_ending": ".nii",
        }
        plans = stock_plans()
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization", "ZScoreNormalization"]
        plans["configurations"]["3d_fullres"]["use_mask_for_norm"] = [False, False]
        plans["foreground_intensity_properties_per_channel"]["1"] = {"mean": 1.0}
        dataset = Dataset(tmp_path, dataset_json, plans).create()
        dataset.add_case("a", channels=2)
        dataset.ensure()
        ct, mri = dataset.load("a")[0]
        assert (ct.min(), ct.max()) == (0, 1)
        assert mri.min() < -1


def test_training_cases_listed_in_dataset_json(tmp_path, sequential):
    dataset = Dataset(tmp_path).create()
    dataset.add_case("a")
    dataset.add_case("not_listed")
    entry = {"images": ["imagesTr/a_0000.nii"], "label": "labelsTr/a.nii"}
    dataset.dataset_json["dataset"] = {"renamed": entry}
    dataset.ensure()
    assert sorted(path.name for path in dataset.folder.glob("*.b2nd")) == ["renamed.b2nd", "renamed_seg.b2nd"]
    assert (
        dataset.dataset_json["dataset"]["renamed"]["label"] == "labelsTr/a.nii"
    )  # nnU-Net's function changes its input


def test_the_spacing_of_a_tiff_is_part_of_it(tmp_path, sequential):
    """nnU-Net reads it from a JSON file beside the TIFF, and copies the labels without that file."""
    dataset = Dataset(tmp_path, DATASET_JSON | {"file_ending": ".tif"}, stock_plans(image_reader_writer="Tiff3DIO"))
    dataset.create()
    for case in "ab":
        dataset.add_case(case)
        for part in ("imagesTr", "labelsTr"):
            (dataset.raw / part / f"{case}.json").write_text('{"spacing": [2, 2, 2]}')
    dataset.ensure()
    assert dataset.load("a")[0].shape == (1, 16, 20, 18)
    copies = dataset.preprocessed / "gt_segmentations"
    assert (copies / "a.json").read_text() == '{"spacing": [2, 2, 2]}'
    before = dataset.made_at()
    for part in ("imagesTr", "labelsTr"):
        (dataset.raw / part / "b.json").write_text('{"spacing": [3, 3, 3]}')
    (copies / "a.json").unlink()  # as nnU-Net's own preprocessing leaves it
    dataset.ensure()
    assert dataset.made_again(before) == {"b"}
    assert dataset.load("b")[0].shape == (1, 24, 30, 27)
    assert (copies / "a.json").is_file()
    before = dataset.made_at()
    dataset.ensure()
    assert dataset.made_again(before) == set()
