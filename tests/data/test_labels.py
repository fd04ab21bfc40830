"""The classes are those of dataset.json, and a file that cannot be used is named."""

import json

import numpy as np
import pytest

from nnunetv2_tpmamba.data.dataset_json import read_description
from nnunetv2_tpmamba.data.labels import Labels

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
        {"background": 0, "one": 1.5},
        {"background": 0, "one": []},
        {"background": 0, "one": None},
        {"background": "0", "whole": ["1", "2"], "core": 2},
    ],
)
def test_labels_that_nnunet_cannot_use_are_one_sentence(labels):
    with pytest.raises(ValueError, match=r"nnU-Net cannot use the labels in there.json \(.+\); correct them"):
        Labels.of({"labels": labels}, source="there.json")


@pytest.mark.parametrize("name", ["Absent", "convert_labelmap_to_one_hot", None])
def test_a_label_manager_that_nnunet_has_not_is_named(name):
    with pytest.raises(ValueError, match=rf"nnU-Net has no label_manager {name!r}, which the plans name"):
        Labels.of(DESCRIPTION, {"label_manager": name})


def test_labels_are_nnunet_s():
    plain = Labels.of({"labels": {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}})
    assert plain == Labels({"liver": 1, "spleen": 2}, 3)
    regions = Labels.of({"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]})
    assert regions == Labels({"whole": (1, 2), "core": 2}, None)


@pytest.mark.parametrize("one", [1, "1", 1.0, True, [1], ["1"]])
def test_a_value_of_any_kind_is_the_number_that_nnunet_reads(one):
    """Text does for nnU-Net's training and evaluation, so it must do for ours."""
    labels = Labels.of({"labels": {"background": "0", "one": one, "two": 2}})
    assert labels == Labels({"one": 1, "two": 2}, None)
    assert labels.names_of_values() == {1: "one", 2: "two"}
    assert labels.held(np.array([0.0, 1.0])) == {"one"}


def test_two_names_of_one_value_are_one_class():
    assert Labels.of({"labels": {"background": 0, "left": 1, "right": 1}}).classes == {"left, right": 1}


def test_every_value_of_a_label_map_has_a_name():
    labels = {"background": 0, "whole": [1, 2, 3], "core": 2, "ignore": 4}
    regions = Labels.of({"labels": labels, "regions_class_order": [1, 2]})
    assert regions.names_of_values() == {1: "label 1", 2: "core", 3: "label 3", 4: "ignore"}
    assert regions.held(np.array([3.0, 4.0])) == {"whole"}


class TestTrainable:
    @pytest.mark.parametrize(
        "labels",
        [
            {"background": 0, "one": 1, "two": 2},
            {"background": 0, "two": "2", "one": "1"},
            {"background": 0, "one": 1, "ignore": 2},
            {"background": 0},
        ],
    )
    def test_labels_without_a_gap(self, labels):
        Labels.of({"labels": labels}).check_trainable()

    def test_regions_of_any_values(self):
        description = {"labels": {"background": 0, "both": [1, 3], "one": 1}, "regions_class_order": [3, 1]}
        Labels.of(description).check_trainable()

    def test_a_gap_is_refused(self):
        labels = {"background": 0, "a": 1, "b": 3, "c": 6}
        with pytest.raises(ValueError, match=r"have the values 0, 1, 3, 6, without 2, 4, 5: nnU-Net trains only"):
            Labels.of({"labels": labels}).check_trainable()

    def test_a_gap_of_any_size_is_refused_at_once(self):
        labels = {"background": 0, "a": 1, "b": 10**15}
        with pytest.raises(
            ValueError, match=r"without 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, \.\.\.: nnU-Net trains only"
        ):
            Labels.of({"labels": labels}).check_trainable()
