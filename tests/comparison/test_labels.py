"""The classes are those of dataset.json, and a file that cannot be used is named."""

import json

import pytest

from nnunetv2_tpmamba.comparison.labels import Labels, read_description

DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "one": 1}, "file_ending": ".nii.gz"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "labels.json"


def test_a_dataset_json_is_read(file):
    file.write_text(json.dumps(DESCRIPTION))
    assert read_description(file) == DESCRIPTION


def test_channel_names_are_only_for_pictures(file):
    file.write_text(json.dumps({key: DESCRIPTION[key] for key in ("labels", "file_ending")}))
    assert Labels.of(read_description(file)).classes == {"one": 1}


@pytest.mark.parametrize("key", ["labels", "file_ending"])
def test_a_missing_entry_is_named(file, key):
    file.write_text(json.dumps({name: value for name, value in DESCRIPTION.items() if name != key}))
    with pytest.raises(ValueError, match=rf"labels.json has no '{key}', which is .*; give a dataset.json"):
        read_description(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [("labels", []), ("labels", {}), ("file_ending", 3), ("file_ending", ""), ("channel_names", ["CT"])],
)
def test_an_entry_of_another_kind_is_named(file, key, value):
    file.write_text(json.dumps(DESCRIPTION | {key: value}))
    with pytest.raises(ValueError, match=rf"labels.json has no usable '{key}'"):
        read_description(file)


@pytest.mark.parametrize("content", ["[1]", "3", "null", '"text"'])
def test_what_is_no_object_is_refused(file, content):
    file.write_text(content)
    with pytest.raises(ValueError, match=r"labels.json holds no object \{...\}; give a dataset.json"):
        read_description(file)


@pytest.mark.parametrize("content", [b"", b'{"labels": ', b"\xff\xfe"])
def test_a_damaged_file_is_named(file, content):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"labels.json cannot be read \("):
        read_description(file)


def test_a_missing_file_is_named(file):
    with pytest.raises(ValueError, match=r"labels.json cannot be read \("):
        read_description(file)


@pytest.mark.parametrize(
    "labels",
    [
        {"one": 1},  # no background
        {"background": 1, "one": 2},
        {"background": 0, "one": "x"},
        {"background": 0, "both": [1, 2]},  # no regions_class_order
        {"background": 0, "one": 1, "ignore": 1},
    ],
)
def test_labels_that_nnunet_cannot_use_are_one_sentence(labels):
    with pytest.raises(ValueError, match=r"nnU-Net cannot use the labels in there.json \(.+\); correct them"):
        Labels.of({"labels": labels}, source="there.json")


def test_labels_are_nnunet_s():
    plain = Labels.of({"labels": {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}})
    assert plain == Labels({"liver": 1, "spleen": 2}, 3)
    regions = Labels.of({"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]})
    assert regions == Labels({"whole": (1, 2), "core": 2}, None)
