"""What makes a comparison of trainings unfair is said, and so is what is not known of it."""

import pytest

from nnunetv2_tpmamba.comparison.fairness import read_splits, unfair
from nnunetv2_tpmamba.comparison.runs import Cost, Run


def run(method, fold="0", epochs=None, iterations=None, data="", cases=()):
    return Run(method, fold, dict.fromkeys(cases), cost=Cost(epochs=epochs), data=data, iterations_per_epoch=iterations)


def test_equal_trainings_and_trainings_of_which_nothing_is_known_need_no_note():
    assert unfair([run("a", "0", 5, 250, "x"), run("b", "0", 5, 250, "x")], None) == ()
    assert unfair([run("a"), run("b")], None) == ()


def test_other_numbers_are_said():
    notes = unfair([run("a", "0", 5, 250), run("a", "1", 4, 250), run("b", "0", 5, 25), run("b", "1", 5, 25)], None)
    assert notes == (
        "The trainings differ in epochs. a: 4, 5; b: 5.",
        "The trainings differ in iterations per epoch. a: 250; b: 25.",
    )


def test_numbers_known_of_some_only():
    (note,) = unfair([run("a", iterations=250), run("b")], None)
    assert note == "It is not known whether the trainings differ in iterations per epoch. a: 250; b: unknown."
    (note,) = unfair([run("a", epochs=3), run("a", "1", epochs=4), run("b")], None)
    assert note == "The trainings differ in epochs. a: 3, 4; b: unknown."


def test_other_data_is_said():
    (note,) = unfair([run("a", data="x"), run("b", data="y")], None)
    assert "different states of the dataset (their dataset_fingerprint.json differ)" in note


def test_data_known_of_some_only():
    (note,) = unfair([run("a", data="x"), run("b"), run("c", data="x"), run("d")], None)
    assert "It is not known whether the trainings were prepared from the same data" in note
    assert "no dataset_fingerprint.json of b and d." in note


def test_validated_cases_that_are_for_training():
    splits = [{"train": ["t1", "t2"], "val": ["v"]}, {"train": ["v"], "val": ["t1"]}]
    runs = [run("a", "0", cases=["v", "t2"]), run("b", "0", cases=["v", "t1", "t2"]), run("a", "1", cases=["t1"])]
    (note,) = unfair(runs, splits)
    assert "lists t1, t2 for training of fold 0, but a and b validated on them" in note
    (note,) = unfair(runs[1:], splits)
    assert "lists t1, t2 for training of fold 0, but b validated" in note


@pytest.mark.parametrize("fold", ["all", ""])
def test_what_is_no_numbered_fold_has_no_split(fold):
    assert unfair([run("a", fold, cases=["t1"])], [{"train": ["t1"], "val": []}]) == ()


def test_a_fold_that_the_splits_do_not_have_is_named():
    (note,) = unfair([run("a", "2", cases=["t1"])], [{"train": ["t1"], "val": []}])
    assert note.startswith("Fold 2 is none of the 1 in splits_final.json: nnU-Net drew its cases at random")
    assert unfair([run("a", "2", cases=["t1"])], None) == ()


def test_splits_are_read(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["a"], "val": ["b"]}]')
    assert read_splits(path, ["0"]) == ([{"train": ["a"], "val": ["b"]}], ())


@pytest.mark.parametrize("content", [None, "", "{", "3", "{}", "[1]", '[{"train": []}]', '[{"train": [1], "val": []}]'])
def test_splits_that_are_missing_or_damaged_are_said(tmp_path, content):
    path = tmp_path / "splits_final.json"
    if content is not None:
        path.write_text(content)
    state = "missing" if content is None else "damaged"
    note = f"{path} is {state}, so it is not known which cases were trained on."
    assert read_splits(path, ["0"]) == read_splits(path, ["all", "0"]) == (None, (note,))
    assert read_splits(path, ["all"]) == (None, ())
