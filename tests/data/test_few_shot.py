"""The few-shot protocol: which cases are for testing, and which draws each fold trains on."""

import itertools
import json
import math
import random
import re

import pytest

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


def test_test_cases_follow_the_seed():
    chosen = [choose_test(BOTH, 6, seed) for seed in range(4)]
    assert len(set(chosen)) == 4
    assert chosen == [choose_test(BOTH, 6, seed) for seed in range(4)]


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
    folds = few_shot_folds({"1e2": {"x"}, "1e3": {"x"}, "c": {"y"}}, ["c"], [1], 2, seed=0)
    lines = [re.sub(" +", " ", line) for line in table(folds).splitlines()]
    assert lines[2] == "| 0 | 2 | all | every case that is not for testing | y |"
    for fold in folds[1:]:
        assert lines[2 + fold.fold] == f"| {fold.fold} | 1 | {fold.draw} | {fold.train[0]} | y |"
    assert lines[-1] == "All folds are tested on: c"
