"""Cases that cannot be used are refused with the reason, and odd ones are used and mentioned."""

import re

import numpy as np
import pytest
import SimpleITK
from support.plans import stock_plans
from support.preprocessed_datasets import Dataset


class TestWarnings:
    """What is odd, but may be meant, is said and used."""

    @pytest.fixture
    def said(self, tmp_path, sequential):
        def said(image=None, origin=None):
            dataset = Dataset(tmp_path).create()
            dataset.add_case("a", image)
            if origin is not None:
                moved = SimpleITK.ReadImage(str(dataset.raw / "imagesTr/a_0000.nii"))
                moved.SetOrigin(origin)
                SimpleITK.WriteImage(moved, str(dataset.raw / "imagesTr/a_0000.nii"))
            dataset.ensure()
            assert len(dataset.made_at()) == 3
            return [line for line in dataset.log if line.startswith("case a: ")]

        return said

    def test_a_usual_ct_gives_none(self, said):
        assert said() == []

    def test_constant_image(self, said):
        assert said(np.full((8, 10, 9), 40.0)) == ["case a: channel 0 has the same value everywhere"]

    def test_ct_that_lost_its_rescale_intercept(self, said):
        image = np.random.default_rng(0).normal(1064, 60, (8, 10, 9))
        image[:, :, 8:] = 24  # air
        (line,) = said(image)
        assert "100% of the labelled voxels of channel 0 are outside the HU window" in line
        assert "rescale slope or intercept" in line

    def test_voxels_of_nifti_that_are_no_numbers(self, said):
        """SimpleITK reads them as 0, which in a CT is water."""
        image = np.random.default_rng(0).normal(40, 60, (8, 10, 9)).astype(np.float32)
        image[0, 0, :2], image[1, 1, 1] = np.nan, np.inf
        (line,) = said(image)
        assert re.search(r"3 voxels of .*a_0000\.nii are NaN or infinite, and are read as 0", line)

    def test_label_at_another_place(self, said):
        (line,) = said(origin=(5, 0, 0))
        assert "Origin mismatch" in line


class TestErrors:
    @pytest.mark.parametrize(
        ("value", "scheme", "message"),
        [
            (np.nan, "CTNormalization", "Images contain NaN"),
            (np.inf, "ZScoreNormalization", "the images have voxels that are not finite"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:All-NaN slice:RuntimeWarning")
    def test_image_with_nan_or_infinity(self, tmp_path, sequential, value, scheme, message):
        """An infinite voxel of a CT is clipped to the window, and so does no harm."""
        dataset_json = {"channel_names": {"0": "X"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".mha"}
        plans = stock_plans()
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = [scheme]
        dataset = Dataset(tmp_path, dataset_json, plans).create()  # not NIfTI: SimpleITK reads NaN as 0 there
        image = np.zeros((8, 10, 9))
        image[4, 5, 6] = value
        dataset.add_case("a", image)
        with pytest.raises(RuntimeError, match=f"case a: {message}"):
            dataset.ensure()

    def test_label_value_that_dataset_json_does_not_name(self, unmade):
        label = np.zeros((8, 10, 9), np.uint8)
        label[2, 3, 4] = 7
        unmade.add_case("odd", label=label)
        with pytest.raises(RuntimeError, match=r"case odd: Unexpected labels found in .*odd.nii.* Found: \[0. 7.\]"):
            unmade.ensure()

    def test_label_of_another_spacing(self, unmade):
        unmade.write_image("labelsTr/bb.nii", np.ones((8, 10, 9), np.uint8), (2, 2, 5))
        with pytest.raises(RuntimeError, match="case bb: Spacing mismatch between segmentation and corresponding"):
            unmade.ensure()

    def test_image_of_two_channels_in_one_file(self, unmade):
        image = SimpleITK.JoinSeries([SimpleITK.ReadImage(str(unmade.raw / "imagesTr/bb_0000.nii"))] * 2)
        SimpleITK.WriteImage(image, str(unmade.raw / "imagesTr/bb_0000.nii"))
        message = r"case bb: .*bb_0000.nii has 4 dimensions; save it with 3, several channels in a file each"
        with pytest.raises(RuntimeError, match=message):
            unmade.ensure()

    def test_channel_is_missing(self, tmp_path, sequential):
        dataset_json = {"channel_names": {"0": "CT", "1": "CT"}, "labels": {"background": 0}, "file_ending": ".nii"}
        plans = stock_plans()
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization"] * 2
        plans["configurations"]["3d_fullres"]["use_mask_for_norm"] = [False] * 2
        dataset = Dataset(tmp_path, dataset_json, plans).create()
        dataset.add_case("a")
        with pytest.raises(RuntimeError, match=r"case a: Unexpected number of modalities. Expected: 2. Got: 1"):
            dataset.ensure()

    def test_ignored_voxels_are_no_error(self, tmp_path, sequential):
        dataset_json = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "whole": [1, 2], "part": 2, "ignore": 3},
            "regions_class_order": [1, 2],
            "file_ending": ".nii",
        }
        dataset = Dataset(tmp_path, dataset_json).create()
        dataset.add_case("a", label=np.arange(720, dtype=np.uint8).reshape(8, 10, 9) % 4)
        dataset.ensure()
        assert not [line for line in dataset.log if "case a" in line]
