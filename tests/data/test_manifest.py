"""The bookkeeping of a data folder, on small files in place of images; test_preprocessing.py has the real thing."""

import json
import os
import shutil
from copy import deepcopy

import pytest
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from support.plans import stock_plans

from nnunetv2_tpmamba.data.manifest import (
    CASE_ENDINGS,
    CaseRecord,
    Manifest,
    SourceFile,
    data_settings,
    label_copy,
    name_some,
    training_cases,
)
from nnunetv2_tpmamba.data.plans import derive_plans
from nnunetv2_tpmamba.data.survey import Survey

DATASET_JSON = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii"}
SETTINGS = {"spacing": [1, 1, 1]}


class Made:
    """A data folder with two cases made from one file each and its label."""

    def __init__(self, base):
        self.raw, self.folder = base / "raw", base / "preprocessed" / "data"
        for folder in (self.raw / "imagesTr", self.raw / "labelsTr", self.folder / ".tpmamba"):
            folder.mkdir(parents=True)
        (base / "preprocessed/gt_segmentations").mkdir()
        for case in ("a", "bb"):
            (self.raw / f"imagesTr/{case}_0000.nii").write_text("image")
            (self.raw / f"labelsTr/{case}.nii").write_text("label")
        self.manifest = Manifest(SETTINGS, {})
        for case, files in training_cases(self.raw, DATASET_JSON).items():
            for ending in CASE_ENDINGS:
                (self.folder / f"{case}{ending}").write_text("data")
            shutil.copy(files.label, label_copy(self.folder, case, ".nii"))
            sources = [SourceFile.of(path) for path in files.paths]
            self.manifest.cases[case] = CaseRecord(sources, [4, 4, 4], ["", "", ""])
        self.manifest.write(self.folder)

    def survey(self, settings=SETTINGS):
        return Survey.of(self.folder, settings, training_cases(self.raw, DATASET_JSON), ".nii")

    def survey_without_raw_data(self):
        return Survey.of(self.folder, SETTINGS, {}, ".nii")


def replace(path, text):
    """Overwrite a file; its date changes even where the clock of the file system is slow."""
    path.write_text(text)
    os.utime(path, (1e9, 1e9))


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


class TestManifest:
    def test_reads_what_it_wrote(self, made):
        made.manifest.cases["ccc"] = None
        made.manifest.write(made.folder)
        assert Manifest.read(made.folder) == made.manifest

    def test_no_folder(self, tmp_path):
        assert Manifest.read(tmp_path / "gone") is None

    def test_data_of_unknown_origin(self, made):
        shutil.rmtree(made.folder / ".tpmamba")
        with pytest.raises(
            ValueError, match=r"holds data, but no .tpmamba/manifest.json .*copy that hidden sub-folder"
        ):
            Manifest.read(made.folder)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": {}, "cases": {"a": {"sizes": 1}}}'])
    def test_damaged(self, made, content):
        (made.folder / ".tpmamba/manifest.json").write_text(content)
        with pytest.raises(ValueError, match=r"manifest.json cannot be read \(.*delete .*/data, it will be made again"):
            Manifest.read(made.folder)


class TestSurvey:
    def test_everything_is_there(self, made):
        for survey in (made.survey(), made.survey_without_raw_data()):
            assert survey == Survey(current=made.manifest.cases)
            assert survey.is_complete

    def test_nothing_is_there(self, tmp_path):
        survey = Survey.of(tmp_path, SETTINGS, {}, ".nii")
        assert not survey.is_complete
        assert survey.describe() == "no case was made"

    @pytest.mark.parametrize(
        ("change", "description"),
        [
            (lambda made: replace(made.raw / "imagesTr/a_0000.nii", "other"), "image or label changed: a"),
            (lambda made: (made.raw / "labelsTr/a.nii").write_text("a longer one"), "image or label changed: a"),
            (lambda made: (made.raw / "imagesTr/a_0001.nii").write_text("image"), "image or label changed: a"),
            (lambda made: (made.folder / "a.pkl").unlink(), "preprocessed file missing or damaged: a"),
            (lambda made: (made.folder / "a.b2nd").write_text(""), "preprocessed file missing or damaged: a"),
            (lambda made: label_copy(made.folder, "a", ".nii").unlink(), "label copy missing or damaged: a"),
            (lambda made: (made.raw / "imagesTr/a_0000.nii").unlink(), "no longer in the raw data: a"),
        ],
    )
    def test_one_case_is_outdated(self, made, change, description):
        change(made)
        survey = made.survey()
        assert not survey.is_complete
        assert survey.describe() == description
        assert "bb" in survey.current

    def test_other_settings(self, made):
        survey = made.survey({"spacing": [3, 3, 3]})
        assert survey.describe() == "made with other settings (spacing [1, 1, 1] instead of [3, 3, 3]): a, bb"

    def test_only_the_date_changed(self, made):
        path = made.raw / "imagesTr/a_0000.nii"
        os.utime(path, (1e9, 1e9))
        survey = made.survey()
        assert survey.is_complete
        assert not survey.is_recorded
        assert survey.current["a"].sources[0].mtime_ns == 10**18


class TestDataSettings:
    @pytest.fixture
    def plans(self):
        return derive_plans(stock_plans(), "3d_fullres", DATASET_JSON)

    def test_survive_json(self, plans):
        settings = data_settings(plans, "3d_fullres", DATASET_JSON)
        assert json.loads(json.dumps(settings)) == settings

    def test_patch_size_does_not_matter(self, plans):
        before = data_settings(plans, "3d_fullres", DATASET_JSON)
        plans["configurations"]["3d_fullres"]["patch_size"] = [32, 32, 32]
        assert data_settings(plans, "3d_fullres", DATASET_JSON) == before

    @pytest.mark.parametrize(
        ("scheme", "statistic", "matters"),
        [
            ("CTNormalization", "median", False),
            ("CTNormalization", "percentile_99_5", True),
            ("ZScoreNormalization", "mean", False),
            ("NormalizationOfTheUser", "median", True),
        ],
    )
    def test_statistics_matter_where_they_are_used(self, plans, scheme, statistic, matters):
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = [scheme]
        before = data_settings(plans, "3d_fullres", DATASET_JSON)
        plans["foreground_intensity_properties_per_channel"]["0"][statistic] = 12345.0
        assert (data_settings(plans, "3d_fullres", DATASET_JSON) != before) == matters

    def test_labels_matter(self, plans):
        before = data_settings(plans, "3d_fullres", DATASET_JSON)
        labels = DATASET_JSON["labels"] | {"ignore": 2}
        assert data_settings(plans, "3d_fullres", DATASET_JSON | {"labels": labels}) != before


class TestTrainingCases:
    def test_are_nnunet_s(self, tmp_path):
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / folder).mkdir()
        for case in ("a", "a_1", "b_0000", "b.c"):
            for name in (f"imagesTr/{case}_0000.nii", f"imagesTr/{case}_0001.nii", f"labelsTr/{case}.nii"):
                (tmp_path / name).touch()
        listed = get_filenames_of_train_images_and_targets(str(tmp_path), deepcopy(DATASET_JSON))
        expected = {case: (files["images"], files["label"]) for case, files in listed.items()}
        assert training_cases(tmp_path, DATASET_JSON) == expected

    def test_label_is_missing(self, made):
        (made.raw / "labelsTr/bb.nii").unlink()
        with pytest.raises(FileNotFoundError, match=r"case bb: .*labelsTr/bb.nii does not exist; restore it or remove"):
            training_cases(made.raw, DATASET_JSON)

    def test_no_raw_data(self, tmp_path):
        assert training_cases(tmp_path / "gone", DATASET_JSON) == {}


def test_many_names_are_counted():
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(list("abcdefg")) == "a, b, c, d, e and 2 more"
