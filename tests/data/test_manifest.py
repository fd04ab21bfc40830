"""What the manifest writes it reads again, and the raw cases are nnU-Net's."""

import shutil
from copy import deepcopy

import pytest
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from support.plans import DATASET_JSON

from nnunetv2_tpmamba.data.manifest import Manifest, name_some, training_cases


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
        with pytest.raises(
            ValueError, match=r"manifest.json cannot be read \(.*delete .*_tpmamba, it will be made again"
        ):
            Manifest.read(made.folder)


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
