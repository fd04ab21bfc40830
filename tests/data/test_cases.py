"""The cases are those that nnU-Net lists, and what it cannot take is refused before anything is made."""

import shutil
from copy import deepcopy

import pytest
import SimpleITK
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from support.plans import DATASET_JSON
from support.raw_datasets import make_raw

from nnunetv2_tpmamba.data.cases import (
    APPLE_DOUBLE,
    files_of_cases,
    find_images,
    labels_of_present_cases,
    taken_for_labels,
    training_cases,
)


@pytest.fixture
def raw(tmp_path):
    return make_raw(tmp_path / "raw", ending=".nii")


class TestTrainingCases:
    def test_are_nnunet_s(self, tmp_path):
        cases = ("a", "a_1", "b_0000", "b.c", "a b", ".hidden", "x_seg", "it's $x", "ünï")
        folder = make_raw(tmp_path / "raw", cases, channels=2, ending=".nii")
        (folder / "imagesTr/no_channel.nii").touch()
        (folder / "imagesTr/of_another_kind_0000.nii.gz").touch()
        (folder / "imagesTr/folder_0000.nii").mkdir()
        listed = get_filenames_of_train_images_and_targets(str(folder), deepcopy(DATASET_JSON))
        expected = {case: (files["images"], files["label"]) for case, files in listed.items() if case in cases}
        assert training_cases(folder, DATASET_JSON) == expected
        assert len(expected) == len(cases)

    def test_label_is_missing(self, raw):
        (raw / "labelsTr/b.nii").unlink()
        with pytest.raises(FileNotFoundError, match=r"case b: .*labelsTr/b.nii does not exist; restore it or remove"):
            training_cases(raw, DATASET_JSON)

    def test_no_raw_data(self, tmp_path):
        assert training_cases(tmp_path / "gone", DATASET_JSON) == {}

    @pytest.mark.parametrize(
        ("listed", "message"),
        [
            ([], "an entry 'dataset' that is no object"),
            ({"a": ["a.nii"]}, "lists the case a without a list of 'images' and a 'label'"),
            ({"a": {"images": "a.nii", "label": "a.nii"}}, "lists the case a without a list of 'images'"),
            ({"a": {"images": ["a.nii"]}}, "lists the case a without a list of 'images' and a 'label'"),
            ({"b/a": {"images": ["a.nii"], "label": "a.nii"}}, "a case named 'b/a', of which no file can be named"),
        ],
    )
    def test_a_list_that_nnunet_cannot_read_is_refused(self, raw, listed, message):
        with pytest.raises(ValueError, match=message):
            training_cases(raw, DATASET_JSON | {"dataset": listed})

    @pytest.mark.parametrize("ending", [".mhd", ".nhdr", ".hdr"])
    def test_headers_without_voxels_are_refused(self, raw, ending):
        with pytest.raises(ValueError, match=rf"{ending} files keep their voxels in another file, .*; convert"):
            training_cases(raw, DATASET_JSON | {"file_ending": ending})


class TestNames:
    def test_a_case_that_would_overwrite_the_labels_of_another_is_refused(self, tmp_path):
        raw = make_raw(tmp_path / "raw", ("p1", "p1_seg", "p2"), ending=".nii")
        with pytest.raises(
            ValueError, match=r"p1 and p1_seg cannot be in one dataset: nnU-Net .* the same file, p1_seg\.b2nd; rename"
        ):
            training_cases(raw, DATASET_JSON)

    @pytest.mark.parametrize("name", ["p1.nii", "p1.NII.GZ", "p1.img"])
    def test_a_name_that_simpleitk_shortens_is_refused(self, tmp_path, name):
        raw = make_raw(tmp_path / "raw", (name, "p2"))
        with pytest.raises(ValueError, match=rf"the case {name} has a name that ends with a suffix of NIfTI .*rename"):
            training_cases(raw, DATASET_JSON | {"file_ending": ".nii.gz"})
        SimpleITK.WriteImage(SimpleITK.Image(2, 3, 4, SimpleITK.sitkUInt8), str(tmp_path / f"{name}.nii.gz"))
        assert not (tmp_path / f"{name}.nii.gz").exists()  # so it is true

    def test_one_that_nnunet_overlooks_is_named(self):
        assert taken_for_labels(["a", "x_seg", "segment"]) == ["x_seg"]


class TestMacFiles:
    """macOS writes them on disks and shares of other systems, beside each file."""

    @pytest.fixture
    def copied(self, raw):
        for part in ("imagesTr/._a_0000.nii", "labelsTr/._a.nii"):
            (raw / part).write_bytes(APPLE_DOUBLE + b"\x00\x02\x00\x00Mac OS X")
        return raw

    def test_among_the_raw_data_are_named(self, copied):
        with pytest.raises(ValueError, match=r"imagesTr/\._a_0000.nii is no image: macOS wrote it .* find .* -delete"):
            training_cases(copied, DATASET_JSON)

    def test_among_label_maps_are_named(self, copied):
        with pytest.raises(ValueError, match=r"labelsTr/\._a.nii is no image: macOS wrote it beside a.nii for its own"):
            files_of_cases(copied / "labelsTr", ".nii")

    def test_a_case_may_have_such_a_name(self, raw):
        shutil.copyfile(raw / "labelsTr/a.nii", raw / "labelsTr/._a.nii")
        assert list(files_of_cases(raw / "labelsTr", ".nii")) == ["._a", "a", "b"]


def test_labels_of_cases_that_are_gone_are_told_apart(tmp_path):
    raw = make_raw(tmp_path / "raw", ("a", "b"), ending=".nii")
    shutil.copytree(raw / "labelsTr", tmp_path / "gt_segmentations")
    (raw / "imagesTr/b_0000.nii").unlink()
    files, gone = labels_of_present_cases(tmp_path, raw, DATASET_JSON)
    assert (list(files), gone) == (["a"], ["b"])
    for absent in (None, tmp_path / "nowhere"):
        files, gone = labels_of_present_cases(tmp_path, absent, DATASET_JSON)
        assert (list(files), gone) == (["a", "b"], [])


def test_images_are_found_where_dataset_json_lists_them(tmp_path):
    raw = make_raw(tmp_path / "raw", ending=".nii")
    listed = {"p": {"images": ["imagesTr/b_0000.nii"], "label": "labelsTr/b.nii"}}
    assert find_images(raw, DATASET_JSON | {"dataset": listed}) == {"p": raw / "imagesTr/b_0000.nii"}
    assert find_images(raw, DATASET_JSON) == {case: raw / f"imagesTr/{case}_0000.nii" for case in "ab"}
    assert find_images(None, DATASET_JSON) == {}
