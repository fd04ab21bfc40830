import itertools
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.data.few_shot import (
    MOST_SUBSETS,
    Fold,
    choose_test,
    covering_subset,
    few_shot_folds,
    number_of_test_cases,
    table,
)

BOTH = {f"case{index:02}": {"liver", "spleen"} for index in range(30)}
TEST = [f"case{index:02}" for index in range(6)]


def draws_of(folds, size):
    return [fold.train for fold in folds if fold.draw is not None and len(fold.train) == size]


def test_folds_come_as_the_paper_s_table():
    folds = few_shot_folds(BOTH, TEST, [3, 6], 5, seed=0)
    assert [fold.fold for fold in folds] == list(range(11))
    assert [len(fold.train) for fold in folds] == [24, *[3] * 5, *[6] * 5]
    assert [fold.draw for fold in folds] == [None, *range(1, 6), *range(1, 6)]
    assert all(fold.val == tuple(TEST) for fold in folds)
    assert all(set(fold.train) <= set(folds[0].train) for fold in folds)
    assert set(folds[0].train) == set(BOTH) - set(TEST)


def test_no_draw_comes_twice():
    cases = {name: {"liver"} for name in "abcdef"}
    assert len(set(draws_of(few_shot_folds(cases, ["f"], [2], 10, seed=0), 2))) == 10
    assert len(set(draws_of(few_shot_folds(BOTH, TEST, [12], 50, seed=0), 12))) == 50


def test_draws_follow_the_seed_and_their_size_alone():
    draws = draws_of(few_shot_folds(BOTH, TEST, [3], 2, seed=1), 3)
    assert draws_of(few_shot_folds(BOTH, TEST, [6, 3], 5, seed=1), 3)[:2] == draws
    assert draws_of(few_shot_folds(BOTH, TEST, [3], 2, seed=2), 3) != draws


@pytest.mark.parametrize("number", [8, 60])
@pytest.mark.parametrize("size", [2, 6])
def test_draws_hold_a_class_of_a_single_case(number, size):
    classes = {f"case{index:02}": {"common"} | ({"rare"} if index == 5 else set()) for index in range(number)}
    folds = few_shot_folds(classes, ["case00"], [size], 5, seed=3)
    assert all("case05" in draw for draw in draws_of(folds, size))
    assert not any(fold.missing for fold in folds)


RARE = {f"case{index:03}": {"common"} for index in range(101)} | {
    f"case{10 * index + place:03}": {"common", name} for index, name in enumerate("ABC", 1) for place in (0, 5)
}
"""101 cases; A, B and C are in two cases each, so 8 subsets of 3 hold all classes."""


@pytest.mark.parametrize("seed", range(10))
def test_draws_find_the_few_subsets_with_every_class_among_many(seed):
    assert math.comb(100, 3) > MOST_SUBSETS
    folds = few_shot_folds(RARE, ["case000"], [3], 5, seed)
    assert not any(fold.missing for fold in folds)
    assert len(set(draws_of(folds, 3))) == 5


def test_all_subsets_with_every_class_come_first():
    folds = few_shot_folds(RARE, ["case000"], [3], 12, seed=0)
    assert [bool(fold.missing) for fold in folds[1:]] == [False] * 8 + [True] * 4


def test_the_search_reaches_subsets_that_the_greedy_choice_misses():
    """{x, y} hold all six classes; the greedy choice takes the case with most classes first, after which two miss."""
    classes = {"most": set("abcd"), "x": set("abe"), "y": set("cdf"), "e": {"e"}, "f": {"f"}}
    found = {covering_subset(classes, list(classes), 2, random.Random(seed)) for seed in range(50)}
    assert ("x", "y") in found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [RARE, BOTH, {f"{index:03}": {str(index % 5)} for index in range(60)}])
def test_more_draws_begin_with_the_fewer(classes, seed):
    test = sorted(classes)[:1]
    draws = [draws_of(few_shot_folds(classes, test, [4], number, seed), 4) for number in (1, 2, 5, 9, 15)]
    for fewer, more in itertools.pairwise(draws):
        assert more[: len(fewer)] == fewer


def test_the_same_seed_gives_the_same_folds():
    assert few_shot_folds(RARE, ["case000"], [3], 5, 1) == few_shot_folds(RARE, ["case000"], [3], 5, 1)


def test_classes_that_no_draw_can_hold_are_named():
    classes = {name: {name} for name in "abcd"}
    folds = few_shot_folds(classes, ["d"], [2], 3, seed=0)
    assert folds[0].missing == ("d",)
    assert all(len(fold.missing) == 2 for fold in folds[1:])


def test_test_cases_hold_and_leave_every_class_where_they_can():
    classes = {f"case{index:02}": {"common"} | ({"rare"} if index in (3, 7) else set()) for index in range(12)}
    for seed in range(5):
        assert len({"case03", "case07"} & set(choose_test(classes, 3, seed))) == 1


def test_two_cases_are_enough():
    (fold,) = few_shot_folds({"a": {"one"}, "b": {"one"}}, choose_test({"a": {"one"}, "b": {"one"}}, 1, 0), [], 5, 0)
    assert {fold.train, fold.val} == {("a",), ("b",)}


@pytest.mark.parametrize(
    ("test", "cases", "count"), [(0.2, 30, 6), (6, 30, 6), (0.2, 2, 1), (0.01, 5, 1), (0.9, 10, 9)]
)
def test_number_of_test_cases(test, cases, count):
    assert number_of_test_cases(test, cases) == count


@pytest.mark.parametrize(
    ("test", "cases", "message"),
    [
        (30, 30, "--test 30 leaves no training case of 30; give from 1 to 29 cases"),
        (0, 30, "--test 0 leaves no training"),
        (2.5, 30, "--test 2.5: give a whole number"),
        (math.inf, 30, "--test inf: give a whole number"),
        (math.nan, 30, "--test nan: give a whole number"),
        (float("1e400"), 30, "--test inf: give a whole number"),
        (-1, 30, "--test -1 leaves no training"),
        (1, 1, "there are 1 cases with labels; two are needed"),
    ],
)
def test_impossible_numbers_of_test_cases(test, cases, message):
    with pytest.raises(ValueError, match=message):
        number_of_test_cases(test, cases)


@pytest.mark.parametrize(
    ("size", "draws", "message"),
    [
        (24, 5, "-n 24: there are 24 training cases beside the 6 for testing.*numbers from 1 to 23"),
        (0, 5, "-n 0: "),
        (23, 25, "--draws 25: there are only 24 different draws of 23 from 24"),
    ],
)
def test_impossible_draws(size, draws, message):
    with pytest.raises(ValueError, match=message):
        few_shot_folds(BOTH, TEST, [size], draws, seed=0)


def test_a_fold_survives_json():
    for fold in few_shot_folds(BOTH, TEST, [3], 2, seed=0):
        assert Fold.from_json(json.loads(json.dumps(fold.as_json()))) == fold


def test_the_table_says_what_each_fold_is():
    lines = table(few_shot_folds({"a": {"x"}, "b": {"x"}, "c": {"y"}}, ["c"], [1], 1, seed=0)).splitlines()
    assert lines[2] == "| 0 | 2 | all | every case that is not for testing | y |"
    assert lines[3].startswith("| 1 | 1 | 1 | ")
    assert lines[-1] == "All folds are tested on: c"


def trained(fold):
    fold.mkdir(parents=True)
    (fold / "checkpoint_best.pth").touch()


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        for name in ("raw", "preprocessed", "results"):
            (tmp_path / name).mkdir()
            monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        folder = tmp_path / "preprocessed" / "Dataset009_Few"
        (folder / "gt_segmentations").mkdir(parents=True)
        labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
        (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
        for index in range(6):
            array = np.zeros((4, 5, 6), np.uint8)
            array[1, 1, 1], array[2, 2, 2] = 3, 2 if index == 4 else 1
            path = folder / "gt_segmentations" / f"case_{index}.nii.gz"
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
        return folder

    @pytest.fixture
    def run(self, capsys):
        def run(*arguments, status=0):
            result = cli.main(["fewshot", "-d", "9", *map(str, arguments)])
            output, errors = capsys.readouterr()
            assert result == status, errors
            return output if status == 0 else errors

        return run

    def test_splits_are_nnunets_and_the_table_lies_beside(self, folder, run):
        output = run("-n", 2, "--draws", 3, "--test", 2)
        splits = json.loads((folder / "splits_final.json").read_text())
        protocol = [Fold.from_json(fold) for fold in json.loads((folder / "fewshot.json").read_text())["folds"]]
        assert [set(split) for split in splits] == [{"train", "val"}] * 4
        assert [fold.split() for fold in protocol] == splits
        assert (folder / "fewshot.md").read_text().strip() in output

    def test_regions_count_as_classes_and_the_ignore_label_does_not(self, folder, run):
        output = run("-n", 1, "--draws", 1, "--test", "case_0", "case_4")
        assert "No training case of fold 0 has: core" in output
        assert "ignore" not in output

    def test_existing_splits_are_kept(self, folder, run):
        splits = folder / "splits_final.json"
        splits.write_text("[1]")
        run("-n", 2, "--draws", 2)
        second = splits.read_text()
        run("-n", 3, "--draws", 2)
        assert (folder / "splits_final.backup-1.json").read_text() == "[1]"
        assert (folder / "splits_final.backup-2.json").read_text() == second

    def test_again_changes_nothing(self, folder, run):
        run("-n", 2)
        before = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        trained(folder.parents[1] / "results" / folder.name / "T__P__C" / "fold_0")
        run("-n", 2)
        assert {path.name: path.read_text() for path in folder.iterdir() if path.is_file()} == before

    def test_trained_splits_are_not_replaced(self, folder, run):
        (folder / "splits_final.json").write_text("[1")  # damaged
        model = folder.parents[1] / "results" / folder.name / "T__P__C"
        trained(model / "fold_all")
        (model / "fold_2").mkdir()
        (model / "fold_2" / "training_log_2026.txt").touch()  # of one that stopped before its first epoch
        run("-n", 2)
        trained(model / "fold_3")
        before = sorted(path.name for path in folder.iterdir())
        assert "fold_3; move these elsewhere" in run("-n", 3, status=1)
        assert sorted(path.name for path in folder.iterdir()) == before

    def test_too_few_test_cases_for_a_verdict_are_mentioned(self, folder, run):
        assert "No difference between methods can be significant on 2 test cases; it takes 6" in run("--test", 2)

    def test_the_device_is_named_in_the_script(self, folder, run):
        assert "-tr nnUNetTrainer -p P -device cpu --c'" in run("--script", "-device", "cpu", "-p", "P")

    def test_an_existing_script_is_not_replaced_unasked(self, folder, run, tmp_path):
        script = tmp_path / "train.sh"
        script.write_text("mine")
        assert "exists; name another file" in run("--script", script, status=1)
        assert not (folder / "splits_final.json").exists()
        run("--script", script, "--overwrite")
        assert "nnUNetv2_train" in script.read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--test", "case_9"], "--test: there is no case case_9; give a number"),
            (["--test", *(f"case_{index}" for index in range(6))], "names all 6 cases"),
            (["-n", "2", "2"], "give every number once"),
            (["-n", "9"], "-n 9: there are 5 training cases"),
            (["--draws", "0"], "--draws 0"),
            *((["--test", test], "give a whole number of cases") for test in ("inf", "nan", "1e400")),
            (["--script", "absent/train.sh"], "--script absent/train.sh: there is no folder absent; make it first"),
            (["--script", "/", "--overwrite"], "--script / is a folder; name a file"),
        ],
    )
    def test_wrong_requests_change_nothing(self, folder, run, arguments, message):
        assert message in run(*arguments, status=1)
        assert not (folder / "splits_final.json").exists()

    def test_a_name_that_is_a_number_too_is_asked_for(self, folder, run):
        truth = folder / "gt_segmentations"
        (truth / "case_3.nii.gz").rename(truth / "3.nii.gz")
        assert "--test 3 is a number and the name of a case; for the number write 3.000" in run("--test", 3, status=1)
        assert not (folder / "splits_final.json").exists()
        run("--test", "3.000")
        assert len(json.loads((folder / "splits_final.json").read_text())[0]["val"]) == 3
        run("--test", 3, 3)
        assert json.loads((folder / "splits_final.json").read_text())[0]["val"] == ["3"]
        run("--test", 3, "case_2")
        assert json.loads((folder / "splits_final.json").read_text())[0]["val"] == ["3", "case_2"]

    @pytest.mark.parametrize("damage", ["cut", "empty", "no image"])
    def test_a_damaged_label_map_is_named(self, folder, run, damage):
        path = folder / "gt_segmentations" / "case_0.nii.gz"
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) * 9 // 10], "empty": b"", "no image": b"no image"}[damage])
        errors = run(status=1).strip().splitlines()
        assert len([line for line in errors if str(path) in line]) == 1
        assert "make it again" in errors[-1]
        assert "Traceback" not in "".join(errors)
        assert not (folder / "splits_final.json").exists()

    @pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"labels": {}}', '{"labels": {"a": 1}}'])
    def test_a_damaged_dataset_json_is_named(self, folder, run, content):
        (folder / "dataset.json").write_text(content)
        assert f"{folder / 'dataset.json'} " in run(status=1)

    def test_not_preprocessed(self, folder, run):
        shutil.rmtree(folder / "gt_segmentations")
        assert "preprocess the dataset first: nnUNetv2_plan_and_preprocess -d 9" in run(status=1)

    @pytest.mark.parametrize("variable", ["nnUNet_preprocessed", "nnUNet_results"])
    def test_variables_not_set(self, folder, run, monkeypatch, variable):
        monkeypatch.delenv(variable)
        assert f"the environment variable {variable} is not set" in run(status=1)
        assert not Path(folder, "splits_final.json").exists()
