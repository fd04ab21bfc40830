"""Planned data: whatever decides the preprocessed files is part of their settings, and nothing else is."""

import json
import shlex
from copy import deepcopy
from dataclasses import replace

import pytest
from support.recorded_datasets import planned_data

STATISTICS = "foreground_intensity_properties_per_channel"
CONFIGURATION = ("plans", "configurations", "3d_fullres")
DECIDING = {
    (*CONFIGURATION, "preprocessor_name"): "PreprocessorOfTheUser",
    (*CONFIGURATION, "spacing"): [1.0, 1.0, 2.0],
    (*CONFIGURATION, "normalization_schemes"): ["ZScoreNormalization"],
    (*CONFIGURATION, "use_mask_for_norm"): [True],
    (*CONFIGURATION, "resampling_fn_data"): "resample_torch_fornnunet",
    (*CONFIGURATION, "resampling_fn_data_kwargs", "order"): 1,
    (*CONFIGURATION, "resampling_fn_seg"): "resample_torch_fornnunet",
    (*CONFIGURATION, "resampling_fn_seg_kwargs", "order"): 0,
    ("plans", "image_reader_writer"): "NibabelIO",
    ("plans", "transpose_forward"): [2, 1, 0],
    **{("plans", STATISTICS, "0", name): 12345.0 for name in ("percentile_00_5", "percentile_99_5", "mean", "std")},
    ("dataset_json", "labels", "organ"): 2,  # another value in the label maps
    ("dataset_json", "labels", "other"): 2,
    ("dataset_json", "labels", "ignore"): 2,
    ("dataset_json", "labels"): {"background": 0, "region": [1, 2]},
}
"""Each entry of the derived plans or of dataset.json that decides what the files hold, and another value of it."""

INDIFFERENT = {
    (*CONFIGURATION, "patch_size"): [32, 32, 32],
    (*CONFIGURATION, "batch_size"): 7,
    (*CONFIGURATION, "architecture"): {"network_class_name": "another"},
    (*CONFIGURATION, "batch_dice"): False,
    (*CONFIGURATION, "resampling_fn_probabilities"): "resample_torch_fornnunet",
    ("plans", "plans_name"): "Mine",
    **{("plans", STATISTICS, "0", name): 12345.0 for name in ("min", "median", "max")},
    ("dataset_json", "numTraining"): 99,
}
"""Entries that change nothing in the files: a training that differs in these uses the same data."""


def names(path):
    return ".".join(path[-2:])


def with_entry(data, path, value):
    """The data with one entry of its plans or dataset.json replaced or added."""
    first, *between, last = path
    whole = deepcopy(getattr(data, first))
    entries = whole
    for key in between:
        entries = entries[key]
    assert entries.get(last) != value
    entries[last] = value
    return replace(data, **{first: whole})


@pytest.mark.parametrize("path", DECIDING, ids=names)
def test_what_decides_the_files_is_in_the_settings(path):
    data = planned_data()
    assert with_entry(data, path, DECIDING[path]).settings != data.settings


@pytest.mark.parametrize("path", INDIFFERENT, ids=names)
def test_what_does_not_decide_the_files_is_not(path):
    data = planned_data()
    assert with_entry(data, path, INDIFFERENT[path]).settings == data.settings


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ((*CONFIGURATION, "normalization_schemes"), ["ZScoreNormalization"], ["RescaleTo01Normalization"]),
        (("dataset_json", "labels"), {"background": 0, "organ": 1, "b": 2}, {"background": 0, "organ": 1, "ignore": 2}),
    ],
    ids=["schemes that read no statistics", "a label that becomes the one to ignore"],
)
def test_what_decides_the_files_matters_where_all_else_is_equal(path, one, other):
    data = planned_data()
    assert with_entry(data, path, one).settings != with_entry(data, path, other).settings


@pytest.mark.parametrize(
    ("scheme", "statistic", "matters"),
    [
        ("CTNormalization", "median", False),
        ("CTNormalization", "percentile_99_5", True),
        ("ZScoreNormalization", "mean", False),
        ("NormalizationOfTheUser", "median", True),
    ],
)
def test_statistics_matter_where_they_are_used(scheme, statistic, matters):
    data = planned_data()
    data.plans["configurations"]["3d_fullres"]["normalization_schemes"] = [scheme]
    other = with_entry(data, ("plans", STATISTICS, "0", statistic), 12345.0)
    assert (other.settings != data.settings) == matters


def test_settings_survive_json():
    settings = planned_data().settings
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize(
    "name", ["Dataset005_Head and Neck", "Dataset005_it's", 'Dataset005_"$HOME"', "Dataset005_`ls`"]
)
def test_the_command_that_makes_the_data_keeps_odd_names(name):
    data = planned_data()
    data.plans["dataset_name"] = name
    command = data.how_to_make.removeprefix("run `").removesuffix("`")
    assert shlex.split(command)[:4] == ["nnUNetv2_tpmamba", "preprocess", "-d", name]
