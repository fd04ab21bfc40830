"""derive_plans: what it sets, what it keeps, and that nnU-Net's own classes read the result as meant."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.plans import DATASET_JSON, RESAMPLINGS, stock_configuration, stock_plans
from support.raw_datasets import link_cases

from nnunetv2_tpmamba.config import Testbed
from nnunetv2_tpmamba.data.plans import derive_plans


def derive(plans=None, configuration="3d_fullres", dataset_json=DATASET_JSON, **options):
    return derive_plans(stock_plans() if plans is None else plans, configuration, dataset_json, **options)


class TestWhatIsSet:
    def test_paper_values(self):
        settings = derive()["configurations"]["3d_fullres"]
        assert settings["spacing"] == list(Testbed.spacing)
        assert settings["patch_size"] == list(Testbed.patch_size)
        assert settings["batch_size"] == Testbed.batch_size

    def test_options(self):
        settings = derive(spacing=(3, 3, 2.5), patch_size=(32, 48, 64), batch_size=4)["configurations"]["3d_fullres"]
        assert settings["spacing"] == [3.0, 3.0, 2.5]
        assert settings["patch_size"] == [32, 48, 64]
        assert settings["batch_size"] == 4

    def test_axes_are_the_image_s(self):
        plans = derive()
        assert plans["transpose_forward"] == plans["transpose_backward"] == [0, 1, 2]
        assert plans["original_median_spacing_after_transp"] == [0.8, 0.7, 5.0]
        assert plans["original_median_shape_after_transp"] == [400, 300, 50]

    def test_median_size_follows_the_spacing(self):
        plans = derive(spacing=(1, 1, 2))
        assert plans["configurations"]["3d_fullres"]["median_image_size_in_voxels"] == [320.0, 210.0, 125.0]

    def test_ct_window_becomes_0_to_1_in_stock_normalization(self):
        properties = derive()["foreground_intensity_properties_per_channel"]["0"]
        hu = np.array([-1024, -200, 25, 250, 3000], np.float32)
        values = CTNormalization(use_mask_for_norm=False, intensityproperties=properties).run(hu)
        np.testing.assert_array_equal(values, np.array([0, 0, 0.5, 1, 1], np.float32))

    def test_channels_that_are_not_ct_keep_their_scheme(self):
        plans = stock_plans()
        plans["configurations"]["3d_fullres"] |= {
            "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
            "use_mask_for_norm": [True, False],
        }
        statistics = plans["foreground_intensity_properties_per_channel"]
        statistics["1"] = dict(statistics["0"])
        derived = derive(plans, dataset_json=DATASET_JSON | {"channel_names": {"0": "MRI", "1": "CT"}})
        assert derived["configurations"]["3d_fullres"]["normalization_schemes"][0] == "ZScoreNormalization"
        assert derived["configurations"]["3d_fullres"]["use_mask_for_norm"] == [True, False]
        assert derived["foreground_intensity_properties_per_channel"]["0"] == statistics["0"]
        assert derived["foreground_intensity_properties_per_channel"]["1"]["mean"] == Testbed.hu_window[0]

    def test_statistics_under_their_former_name(self):
        plans = stock_plans()
        plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
        derived = PlansManager(derive(plans))
        assert derived.foreground_intensity_properties_per_channel["0"]["std"] == 450

    def test_thick_slices_are_interpolated_not_repeated(self):
        rising = np.linspace(0, 1, 6, dtype=np.float32)[None, :, None, None] * np.ones((1, 6, 8, 8), np.float32)
        for plans, repeats in ((stock_plans(), True), (derive(), False)):
            resample = PlansManager(plans).get_configuration("3d_fullres").resampling_fn_data
            slices = resample(rising, (30, 8, 8), (5, 1, 1), (1, 1, 1))[0, :, 4, 4]
            assert (np.diff(slices[3:-3]) == 0).any() == repeats
            assert slices.min() >= 0
            assert slices.max() <= 1

    @pytest.mark.parametrize("name", RESAMPLINGS)
    def test_every_resampling_treats_the_axes_alike(self, name):
        settings = derive()["configurations"]["3d_fullres"]
        stock = stock_configuration()[f"resampling_fn_{name}_kwargs"]
        assert settings[f"resampling_fn_{name}_kwargs"] == stock | {"force_separate_z": False}

    def test_other_resampling_functions(self):
        plans = stock_plans()
        plans["configurations"]["3d_fullres"] |= {
            "resampling_fn_data": "no_resampling_hack",
            "resampling_fn_data_kwargs": {},
            "resampling_fn_seg": "resample_torch_fornnunet",
            "resampling_fn_seg_kwargs": {"is_seg": True},
        }
        settings = derive(plans)["configurations"]["3d_fullres"]
        assert settings["resampling_fn_data_kwargs"] == {}
        assert settings["resampling_fn_seg_kwargs"] == {"is_seg": True, "force_separate_z": False}

    @pytest.mark.parametrize(
        ("options", "suffix"),
        [
            ({}, "_tpmamba"),
            ({"spacing": (1, 1, 1)}, "_tpmamba"),
            ({"spacing": (3, 3, 3)}, "_tpmamba_3mm"),
            ({"spacing": (3, 3, 2.5)}, "_tpmamba_3x3x2.5mm"),
            ({"hu_window": (-1000, 400.5)}, "_tpmamba_-1000to400.5HU"),
            ({"spacing": (0.5, 0.5, 0.5), "hu_window": (0, 80)}, "_tpmamba_0.5mm_0to80HU"),
            ({"orientation": "stored", "hu_window": (0, 80)}, "_tpmamba_0to80HU_stored"),
        ],
    )
    def test_different_data_have_different_identifiers(self, options, suffix):
        settings = derive(**options)["configurations"]["3d_fullres"]
        assert settings["data_identifier"] == "nnUNetPlans_3d_fullres" + suffix

    def test_example_of_the_docstring(self):
        derived = derive_plans(stock_plans(), "3d_fullres", DATASET_JSON, spacing=(1, 1, 2))
        identifier = derived["configurations"]["3d_fullres"]["data_identifier"]
        assert f"# {identifier!r}" in derive_plans.__doc__

    def test_images_are_turned_where_nnunet_has_a_reader_for_it(self):
        for stock, expected in (
            ("SimpleITKIO", "SimpleITKIOWithReorient"),
            ("SimpleITKIOWithReorient", "SimpleITKIOWithReorient"),
            ("NibabelIO", "NibabelIO"),
        ):
            derived = derive(stock_plans(image_reader_writer=stock))
            assert PlansManager(derived).image_reader_writer_class.__name__ == expected
            assert derived["configurations"]["3d_fullres"]["data_identifier"].endswith("_tpmamba")

    def test_images_are_read_as_stored_on_request(self):
        assert derive(orientation="stored")["image_reader_writer"] == "SimpleITKIO"

    def test_window_does_not_matter_without_ct(self):
        plans = stock_plans()
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["ZScoreNormalization"]
        settings = derive(plans, hu_window=(0, 80))["configurations"]["3d_fullres"]
        assert settings["data_identifier"] == "nnUNetPlans_3d_fullres_tpmamba"


class TestWhatIsKept:
    def test_input_is_untouched(self):
        plans = stock_plans()
        derive(plans, spacing=(3, 3, 3))
        assert plans == stock_plans()

    def test_everything_else(self):
        plans = stock_plans(continue_training=True, added_by_hand={"a": [1]})
        derived = derive(plans)
        changed = {
            "configurations",
            "transpose_forward",
            "transpose_backward",
            "original_median_spacing_after_transp",
            "original_median_shape_after_transp",
            "foreground_intensity_properties_per_channel",
            "image_reader_writer",
        }
        assert derived.keys() == plans.keys()
        for key in plans.keys() - changed:
            assert derived[key] == plans[key]
        settings, stock = derived["configurations"]["3d_fullres"], plans["configurations"]["3d_fullres"]
        assert settings.keys() == stock.keys()
        for key in ("architecture", "batch_dice", "preprocessor_name", "use_mask_for_norm"):
            assert settings[key] == stock[key]

    def test_only_the_requested_configuration(self):
        assert list(derive()["configurations"]) == ["3d_fullres"]

    def test_inherited_configuration_stands_alone(self):
        plans = stock_plans()
        plans["configurations"]["mine"] = {"inherits_from": "3d_fullres", "batch_dice": False}
        derived = derive(plans, "mine")
        settings = PlansManager(derived).get_configuration("mine").configuration
        assert settings == derived["configurations"]["mine"]
        assert "inherits_from" not in settings
        assert settings["batch_dice"] is False
        assert settings["preprocessor_name"] == "DefaultPreprocessor"

    @pytest.mark.parametrize(
        "options",
        [{}, {"spacing": (3, 3, 2.5), "hu_window": (-1000, 400)}, {"orientation": "stored", "hu_window": (0, 80)}],
    )
    def test_deriving_again_changes_nothing(self, options):
        derived = derive(**options)
        assert derive(deepcopy(derived), **options) == derived

    def test_deriving_otherwise_equals_deriving_once(self):
        assert derive(derive(spacing=(3, 3, 3), hu_window=(0, 80)), spacing=(2, 2, 2)) == derive(spacing=(2, 2, 2))

    def test_survives_json(self):
        derived = derive(spacing=np.array([1, 1, 1.5]), patch_size=np.array([32, 32, 32]))
        assert json.loads(json.dumps(derived)) == derived


class TestErrors:
    def test_unknown_configuration(self):
        with pytest.raises(
            ValueError, match=r"'3d_full' is not in the plans nnUNetPlans, which have 2d, .*; use 3d_fullres"
        ):
            derive(configuration="3d_full")

    def test_2d(self):
        with pytest.raises(
            ValueError, match=r"'2d' is 2D; TP-Mamba needs a single-stage 3D configuration, use 3d_fullres"
        ):
            derive(configuration="2d")

    def test_first_stage_of_a_cascade(self):
        with pytest.raises(
            ValueError, match=r"belongs to a cascade \(next_stage '3d_cascade_fullres'\); .*use 3d_fullres"
        ):
            derive(configuration="3d_lowres")

    def test_second_stage_of_a_cascade(self):
        with pytest.raises(ValueError, match=r"belongs to a cascade \(previous_stage '3d_lowres'\); .*use 3d_fullres"):
            derive(configuration="3d_cascade_fullres")

    def test_no_usable_configuration(self):
        plans = stock_plans(configurations={"2d": stock_plans()["configurations"]["2d"]})
        with pytest.raises(ValueError, match="plan a single-stage 3D configuration, as 3d_fullres is"):
            derive(plans, "2d")

    def test_parent_is_missing(self):
        plans = stock_plans()
        plans["configurations"]["mine"] = {"inherits_from": "gone"}
        with pytest.raises(
            ValueError, match=r"'mine' cannot be read \(The configuration gone does not exist.*use 3d_fullres"
        ):
            derive(plans, "mine")

    @pytest.mark.parametrize("key", ["channel_names", "modality"])
    def test_dataset_changed_after_planning(self, key):
        dataset_json = {key: {"0": "CT", "1": "PET"}, "labels": {"background": 0}}
        with pytest.raises(
            ValueError, match=r"names 2 channels \(CT, PET\), .* for 1 \(CTNormalization\); plan the dataset"
        ):
            derive(dataset_json=dataset_json)

    def test_labels_with_a_gap(self):
        """Before hours of preprocessing; on CUDA nnU-Net's loss would end with a device-side assert."""
        dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 3}}
        with pytest.raises(ValueError, match=r"have the values 0, 1, 3, without 2: nnU-Net trains only labels"):
            derive(dataset_json=dataset_json)

    def test_labels_that_nnunet_cannot_use(self):
        dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "both": [1, 2]}}
        with pytest.raises(ValueError, match=r"nnU-Net cannot use the labels in dataset.json \(if region-based"):
            derive(dataset_json=dataset_json)

    @pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1)])
    def test_spacing(self, spacing):
        with pytest.raises(ValueError, match=r"spacing \(1, .*: three positive numbers are needed, in mm"):
            derive(spacing=spacing)

    @pytest.mark.parametrize("patch_size", [(96, 96), (96, 96, 0)])
    def test_patch_size(self, patch_size):
        with pytest.raises(ValueError, match=r"patch size \(96, .*: three positive numbers are needed"):
            derive(patch_size=patch_size)

    def test_orientation(self):
        with pytest.raises(
            ValueError, match=r"""orientation 'LPS': set it to "RAS", or to "stored" to turn no image"""
        ):
            derive(orientation="LPS")

    def test_window(self):
        with pytest.raises(ValueError, match=r"HU window \(250, -200\): the first must be below the second"):
            derive(hu_window=(250, -200))


@pytest.fixture(scope="session")
def planned(real_data, tmp_path_factory):
    """A few real cases of a CT and an MR dataset, planned by nnU-Net's own commands."""
    base = tmp_path_factory.mktemp("planned")
    for dataset in ("Dataset702_HeadNeckCrop", "Dataset704_Hippocampus"):
        link_cases(real_data / dataset, base / "raw" / dataset, 3)
    environment = os.environ | {f"nnUNet_{name}": str(base / name) for name in ("raw", "preprocessed", "results")}
    arguments = ["-d", "702", "704", "-npfp", "1", "--no_pp", "--no_pbar"]
    subprocess.run(
        [Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess"), *arguments],
        env=environment | {"nnUNet_n_proc_DA": "1"},
        check=True,
        capture_output=True,
    )
    return base / "preprocessed"


def load(planned, dataset):
    folder = planned / dataset
    return json.loads((folder / "nnUNetPlans.json").read_text()), json.loads((folder / "dataset.json").read_text())


def test_real_ct_plans(planned):
    plans, dataset_json = load(planned, "Dataset702_HeadNeckCrop")
    assert plans["transpose_forward"] == [1, 0, 2]  # else this dataset no longer shows what it is here for
    derived = derive_plans(plans, "3d_fullres", dataset_json)
    assert derived["transpose_forward"] == [0, 1, 2]
    assert derived["original_median_spacing_after_transp"][0] == 2.5
    settings = PlansManager(derived).get_configuration("3d_fullres")
    assert settings.data_identifier == "nnUNetPlans_3d_fullres_tpmamba"
    assert all(88 <= voxels <= 96 for voxels in settings.median_image_size_in_voxels)
    assert derive_plans(derived, "3d_fullres", dataset_json) == derived


def test_real_mr_plans(planned):
    plans, dataset_json = load(planned, "Dataset704_Hippocampus")
    derived = derive_plans(plans, "3d_fullres", dataset_json)
    assert derived["configurations"]["3d_fullres"]["normalization_schemes"] == ["ZScoreNormalization"]
    key = "foreground_intensity_properties_per_channel"
    assert derived[key] == plans[key]
