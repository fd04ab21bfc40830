"""The split is nnU-Net's, wherever it can be kept, and what it leaves out is said."""

import json

import pytest

from nnunetv2_tpmamba.data import splits
from nnunetv2_tpmamba.data.splits import SPLITS, check_fold, describe_gaps, folder_of_split

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

    def test_cases_that_nnunet_takes_for_labels_do_not_count(self, tmp_path):
        assert describe_gaps(tmp_path, [*CASES[:4], "x_seg"]).startswith("only 4 of the 5")

    @pytest.mark.parametrize("content", ["", "[{", "[1]", '{"a": 1}', '[{"train": []}]'])
    def test_leaves_a_damaged_split_to_nnunet(self, tmp_path, content):
        (tmp_path / SPLITS).write_text(content)
        assert describe_gaps(tmp_path, CASES) is None


class TestCheckFold:
    """Whatever nnU-Net would find out in a worker process or with numpy's words, after the data were made."""

    def check(self, folder, fold=0, cases=CASES):
        check_fold(folder, fold, cases, ".nii.gz")

    @pytest.mark.parametrize("fold", [0, 1, 2, "all"])
    def test_folds_that_nnunet_can_train(self, tmp_path, fold):
        self.check(tmp_path, fold)  # on nnU-Net's own split
        write_split(tmp_path, (CASES[:3], CASES[3:5]), (CASES[3:], CASES[:1]))
        self.check(tmp_path, fold)  # of fold 2 nnU-Net draws the cases

    @pytest.mark.parametrize("name", ["case3.nii.gz", "case3_0000.nii.gz"])
    def test_a_file_in_place_of_a_case(self, tmp_path, name):
        write_split(tmp_path, (CASES[:3], [name]))
        with pytest.raises(ValueError, match=rf"names cases that there are not: {name}; write case3 for {name}"):
            self.check(tmp_path)
        self.check(tmp_path, "all")

    def test_a_case_that_there_is_not(self, tmp_path):
        write_split(tmp_path, (["case9", *CASES[:3]], CASES[3:]))
        with pytest.raises(ValueError, match=r"cases that there are not: case9; the cases are case0, .* and 2 more"):
            self.check(tmp_path)

    @pytest.mark.parametrize(("train", "val", "part"), [([], CASES, "train"), (CASES, [], "val")])
    def test_an_empty_part(self, tmp_path, train, val, part):
        write_split(tmp_path, (train, val))
        with pytest.raises(ValueError, match=f"fold 0 of .*{SPLITS} has no case in '{part}'; nnU-Net needs one"):
            self.check(tmp_path)

    @pytest.mark.parametrize("content", ["[1]", '{"train": []}', '[{"train": ["case0"]}]', '[{"train": 1, "val": 2}]'])
    def test_another_form(self, tmp_path, content):
        (tmp_path / SPLITS).write_text(content)
        with pytest.raises(ValueError, match=f"{SPLITS} is no list of folds such as"):
            self.check(tmp_path)

    def test_a_damaged_file(self, tmp_path):
        (tmp_path / SPLITS).write_text("[{")
        with pytest.raises(ValueError, match=rf"{SPLITS} cannot be read \(.*; correct it, or remove it and nnU-Net"):
            self.check(tmp_path)

    def test_too_few_cases_for_nnunets_own_split(self, tmp_path):
        with pytest.raises(ValueError, match=r"fold 0: only 4 of the 5 training cases .*; train with fold 'all'"):
            self.check(tmp_path, cases=CASES[:4])
