"""The split is nnU-Net's, wherever it can be kept, and what it leaves out is said."""

import json

import pytest

from nnunetv2_tpmamba.data import splits
from nnunetv2_tpmamba.data.splits import SPLITS, describe_gaps, folder_of_split

CASES = [f"case{i}" for i in range(7)]


def write_split(folder, *folds):
    (folder / SPLITS).write_text(json.dumps([{"train": train, "val": val} for train, val in folds]))


class TestFolderOfSplit:
    @pytest.fixture
    def read_only(self, monkeypatch):
        def denied(*args):
            raise PermissionError("Read-only file system")

        monkeypatch.setattr(splits, "acquire", denied)

    @pytest.mark.parametrize("is_there", [False, True])
    def test_is_the_datasets(self, tmp_path, is_there):
        if is_there:
            write_split(tmp_path, (CASES[1:], CASES[:1]))
        with folder_of_split(tmp_path, print) as folder:
            assert folder == tmp_path

    def test_is_the_datasets_where_it_is_read_only_and_has_a_split(self, tmp_path, read_only):
        write_split(tmp_path, (CASES[1:], CASES[:1]))
        with folder_of_split(tmp_path, print) as folder:
            assert folder == tmp_path

    def test_is_a_temporary_one_where_it_is_read_only_and_has_none(self, tmp_path, read_only):
        said = []
        with folder_of_split(tmp_path, said.append) as folder:
            assert folder != tmp_path
            (folder / SPLITS).write_text("[]")
        assert not folder.exists()
        assert said == [f"{tmp_path} cannot be written, so the split is not kept; nnU-Net makes the same again"]
        assert list(tmp_path.iterdir()) == []


class TestDescribeGaps:
    def test_a_split_of_all_cases_has_none(self, tmp_path):
        write_split(tmp_path, (CASES[:3], CASES[3:5]), (CASES[3:], CASES[:1]))
        assert describe_gaps(tmp_path, CASES) is None

    def test_enough_cases_for_nnunets_own_have_none(self, tmp_path):
        assert describe_gaps(tmp_path, CASES[:5]) is None

    def test_too_few_cases_for_nnunets_own(self, tmp_path):
        assert describe_gaps(tmp_path, CASES[:4]).startswith("only 4 of the 5 training cases that nnU-Net's default")

    def test_names_the_cases_in_no_fold(self, tmp_path):
        write_split(tmp_path, (CASES[2:], CASES[2:3]))
        gaps = describe_gaps(tmp_path, CASES)
        assert gaps.startswith(f"2 of 7 cases are in no fold of {tmp_path / SPLITS}, so only fold 'all' trains on them")
        assert "case0, case1;" in gaps

    @pytest.mark.parametrize("content", ["", "[{", "[1]", '{"a": 1}', '[{"train": []}]'])
    def test_leaves_a_damaged_split_to_nnunet(self, tmp_path, content):
        (tmp_path / SPLITS).write_text(content)
        assert describe_gaps(tmp_path, CASES) is None
