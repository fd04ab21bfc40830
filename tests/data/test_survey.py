"""Each change to a data folder, its settings or its raw data is noticed, and names the cases it concerns."""

import dataclasses
import os
from copy import deepcopy

import pytest
from support.recorded_datasets import planned_data

from nnunetv2_tpmamba.data.survey import Survey


def overwrite(path, text):
    """Overwrite a file; its date changes even where the clock of the file system is slow."""
    path.write_text(text)
    os.utime(path, (1e9, 1e9))


def test_a_complete_folder_needs_nothing(made):
    for survey in (made.survey(), Survey.of(made.data, {})):
        assert survey == Survey(current=made.manifest.cases)
        assert survey.is_complete


def test_an_empty_folder_is_not_complete(tmp_path):
    survey = Survey.of(planned_data(preprocessed_folder=tmp_path), {})
    assert not survey.is_complete
    assert survey.describe() == "no case was made"


@pytest.mark.parametrize(
    ("change", "description"),
    [
        (lambda made: overwrite(made.raw / "imagesTr/a_0000.nii", "other"), "image or label changed: a"),
        (lambda made: (made.raw / "labelsTr/a.nii").write_text("a longer one"), "image or label changed: a"),
        (lambda made: (made.raw / "imagesTr/a_0001.nii").write_text("image"), "image or label changed: a"),
        (lambda made: (made.folder / "a.pkl").unlink(), "preprocessed file missing or damaged: a"),
        (lambda made: (made.folder / "a.b2nd").write_text(""), "preprocessed file missing or damaged: a"),
        (lambda made: made.data.label_copy("a").unlink(), "label copy missing or damaged: a"),
        (lambda made: (made.raw / "imagesTr/a_0000.nii").unlink(), "no longer in the raw data: a"),
    ],
)
def test_one_case_is_outdated(made, change, description):
    change(made)
    survey = made.survey()
    assert not survey.is_complete
    assert survey.describe() == description
    assert "bb" in survey.current


def test_other_settings_outdate_every_case_and_are_named(made):
    plans = deepcopy(made.data.plans)
    plans["configurations"]["3d_fullres"]["spacing"] = [3.0, 3.0, 3.0]
    survey = made.survey(dataclasses.replace(made.data, plans=plans))
    other = "made with other settings (spacing [1.0, 1.0, 1.0] instead of [3.0, 3.0, 3.0]): a, bb"
    assert survey.describe() == other


def test_a_new_date_alone_outdates_no_case(made):
    path = made.raw / "imagesTr/a_0000.nii"
    os.utime(path, (1e9, 1e9))
    survey = made.survey()
    assert survey.is_complete
    assert not survey.is_recorded
    assert survey.current["a"].sources[0].mtime_ns == 10**18
