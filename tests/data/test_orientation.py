"""The data of images in many orientations are those of images in one, and the log says how they were stored."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from support.images import orientation_of as stored_as
from support.images import store_as, turned
from support.plans import DATASET_JSON, stock_plans
from support.preprocessed_datasets import Dataset

from nnunetv2_tpmamba.data.manifest import Manifest
from nnunetv2_tpmamba.data.orientation import describe_ensembling, describe_orientations, orientation_of
from nnunetv2_tpmamba.data.plans import derive_plans

SPACING = (2, 3, 2.5)  # mm, (x, y, z)


def store(dataset, case, orientation):
    """Store image and label of a case in another orientation."""
    for name in (f"imagesTr/{case}_0000.nii", f"labelsTr/{case}.nii"):
        store_as(dataset.raw / name, dataset.raw / name, orientation)


@pytest.fixture
def unmade(tmp_path, sequential):
    dataset = Dataset(tmp_path / "uniform").create()
    for case in ("a", "bb", "ccc"):
        dataset.add_case(case, spacing=SPACING)
    return dataset


@pytest.fixture
def mixed(unmade, tmp_path):
    """The same cases, two of them stored otherwise."""
    dataset = Dataset(tmp_path / "mixed")
    shutil.copytree(unmade.raw.parents[1], tmp_path / "mixed")
    store(dataset, "bb", "PIR")
    store(dataset, "ccc", "RAS")
    return dataset


class TestTurned:
    def test_data_are_those_of_uniform_images(self, unmade, mixed):
        for dataset in (unmade, mixed):
            dataset.ensure()
        for case in ("a", "bb", "ccc"):
            for ours, theirs in zip(mixed.load(case)[:2], unmade.load(case)[:2], strict=True):
                np.testing.assert_array_equal(ours, theirs)
            for label, places in mixed.load(case)[2]["class_locations"].items():
                np.testing.assert_array_equal(places, unmade.load(case)[2]["class_locations"][label])

    def test_label_and_image_stored_differently(self, unmade, mixed):
        unmade.ensure()
        label = mixed.raw / "labelsTr/bb.nii"
        store_as(label, label, "LPS")  # the image is PIR
        mixed.ensure()
        np.testing.assert_array_equal(mixed.load("bb")[1], unmade.load("bb")[1])

    def test_depth_is_the_axis_of_the_body(self, unmade):
        label = np.zeros((8, 10, 9), np.uint8)
        label[6, 2, 7] = 1  # the seventh slice from below, near the front, on the left
        unmade.add_case("a", label=label, spacing=(1, 1, 1))
        store(unmade, "a", "AIR")
        unmade.ensure()
        assert [place.tolist() for place in np.nonzero(unmade.load("a")[1][0] == 1)] == [[6], [7], [1]]

    def test_the_log_says_how_many_were_stored_otherwise(self, mixed):
        mixed.ensure()
        assert {case: record.orientation for case, record in Manifest.read(mixed.folder).cases.items()} == {
            "a": "LPS",
            "bb": "PIR",
            "ccc": "RAS",
        }
        assert describe_orientations(mixed.planned()).startswith(
            "Orientation: every image is read as RAS (SimpleITKIOWithReorient); 2 of 3 training cases were stored "
            "otherwise (1 LPS, 1 PIR, 1 RAS). "
        )

    def test_data_made_before_are_not_mixed_with_them(self, mixed):
        mixed.plans = derive_plans(stock_plans(), "3d_fullres", DATASET_JSON, orientation="stored")
        mixed.plans["configurations"]["3d_fullres"]["data_identifier"] = mixed.folder.name  # as it was called
        mixed.ensure()
        before = mixed.made_at()
        mixed.plans = derive_plans(stock_plans(), "3d_fullres", DATASET_JSON)
        mixed.ensure()
        assert mixed.made_again(before) == {"a", "bb", "ccc"}
        assert "(made with other settings (reader SimpleITKIO instead of SimpleITKIOWithReorient): a, bb" in " ".join(
            mixed.log
        )

    def test_a_record_of_before_has_no_orientation(self, mixed):
        mixed.ensure()
        file = mixed.folder / ".tpmamba/manifest.json"
        content = json.loads(file.read_text())
        for record in content["cases"].values():
            del record["orientation"]
        file.write_text(json.dumps(content))
        before = mixed.made_at()
        mixed.ensure()
        assert mixed.made_again(before) == set()
        said = describe_orientations(mixed.planned())
        assert "0 of 0 training cases were stored otherwise (none is on record)" in said


class TestAsStored:
    def as_stored(self, dataset, **changes):
        dataset.plans = derive_plans(
            stock_plans(**changes), "3d_fullres", dataset.dataset_json, orientation="RAS" if changes else "stored"
        )
        identifier = dataset.plans["configurations"]["3d_fullres"]["data_identifier"]
        dataset.ensure()
        assert (dataset.preprocessed / identifier / "a.b2nd").is_file()
        return describe_orientations(dataset.planned())

    def test_uniform(self, unmade):
        assert self.as_stored(unmade) == (
            "Orientation: images are read as they are stored, because the trainer's testbed asks for it; "
            "all 3 training cases are LPS"
        )
        assert "because the model's earlier folds were; all" in describe_orientations(unmade.planned(), as_before=True)

    def test_mixed_is_a_warning_with_names(self, mixed):
        said = self.as_stored(mixed, image_reader_writer="NibabelIO")
        assert said.startswith("WARNING: the training cases differ in orientation, and images are read as they are ")
        assert "because the plans name NibabelIO; name NibabelIOWithReorient as overwrite_image_reader_writer" in said
        assert "1 LPS (a); 1 PIR (bb); 1 RAS (ccc)" in said

    def test_many_labels(self, mixed):
        mixed.dataset_json["labels"] |= {f"organ {value}": value for value in range(2, 301)}
        assert "because SimpleITKIOWithReorient writes labels up to 254, and dataset.json has 300: " in self.as_stored(
            mixed, plans_name="nnUNetPlans"
        )


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "PIR", "SAL"])
def test_orientation_of_a_file_whatever_reads_it(tmp_path, orientation):
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.uint8))
    path = tmp_path / "a.nii.gz"
    for direction in (np.eye(3), turned(20)):
        image.SetDirection(np.ravel(direction).tolist())
        SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, orientation), str(path))
        assert stored_as(path) == orientation
        for reader in (SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient):
            assert orientation_of(reader().read_images([str(path)])[1]) == orientation


def test_a_format_without_orientation():
    assert orientation_of({"spacing": [1, 1, 1]}) == ""
    assert orientation_of({"sitk_stuff": {"direction": (1, 0, 0, 1)}}) == ""


class TestEnsembling:
    PLANS = derive_plans(stock_plans(), "3d_fullres", DATASET_JSON)

    def test_with_a_stock_model_that_reads_otherwise(self):
        said = describe_ensembling(self.PLANS, "SimpleITKIO")
        assert "Stock trainers on nnUNetPlans do not: SimpleITKIO reads images as they are stored" in said
        assert 'set "overwrite_image_reader_writer": "SimpleITKIOWithReorient" in dataset.json' in said

    def test_with_a_stock_model_that_reads_alike(self):
        assert describe_ensembling(self.PLANS, "SimpleITKIOWithReorient").endswith(
            "and stock trainers on nnUNetPlans too"
        )
