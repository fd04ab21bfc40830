import math
import statistics

import pytest
from scipy import stats

from nnunetv2_tpmamba.comparison.metrics import METRICS
from nnunetv2_tpmamba.comparison.results import Group, Results
from nnunetv2_tpmamba.comparison.spread import Deviation, deviation, spread, spread_table

DICE = {  # by fold, repeat and case
    ("1", 1): {"a": 0.2, "b": 0.4, "c": 0.9},
    ("1", 2): {"a": 0.4, "b": 0.4, "c": 0.7},
    ("2", 1): {"a": 0.6, "b": 0.5, "c": 0.7},
    ("2", 2): {"a": 0.0, "b": 0.5, "c": 0.4},
}
DRAWS = Group("3 training cases", ("1", "2"), 3, {"1": 1, "2": 2})


def make_results(dice, group=DRAWS):
    scores = {
        ("m", fold, repeat): {case: {"liver": dict.fromkeys(METRICS, value)} for case, value in cases.items()}
        for (fold, repeat), cases in dice.items()
    }
    return Results("", ("m",), ("liver",), {}, (group,), {}, scores)


def of(dice, group=DRAWS):
    return spread(make_results(dice, group), "m", group, "Dice")


def test_every_deviation_is_of_its_own_source():
    found = of(DICE)
    cases = [statistics.fmean(each[case] for each in DICE.values()) for case in "abc"]
    means = {key: statistics.fmean(values.values()) for key, values in DICE.items()}
    assert found.mean == pytest.approx(statistics.fmean(cases))
    assert found.cases == Deviation(pytest.approx(statistics.stdev(cases)), 3)
    draws = [(means[fold, 1] + means[fold, 2]) / 2 for fold in "12"]
    assert found.draws == Deviation(pytest.approx(statistics.stdev(draws)), 2)
    variances = [statistics.variance([means[fold, 1], means[fold, 2]]) for fold in "12"]
    assert found.repeats == Deviation(pytest.approx(math.sqrt(statistics.fmean(variances))), 2)


def test_the_interval_is_scipys():
    cases = [statistics.fmean(each[case] for each in DICE.values()) for case in "abc"]
    assert of(DICE).interval == pytest.approx(tuple(stats.ttest_1samp(cases, 0).confidence_interval(0.95)))


def test_one_training_has_a_spread_over_cases_only():
    found = of({("0", 1): DICE["1", 1]}, Group("24 training cases", ("0",), 24))
    assert found.cases.n == 3
    assert math.isnan(found.draws.deviation)
    assert math.isnan(found.repeats.deviation)


def test_folds_of_other_cases_are_no_draws():
    folds = {("0", 1): {"a": 0.1, "b": 0.2}, ("1", 1): {"c": 0.8, "d": 0.9}}
    found = of(folds, Group("2 folds", ("0", "1")))
    assert found.cases.n == 4
    assert found.draws == Deviation(pytest.approx(math.nan, nan_ok=True), 0)


def test_shifting_all_trainings_of_a_draw_changes_the_spread_over_draws_alone():
    shifted = {key: {case: dice + 0.3 * (key[0] == "2") for case, dice in of.items()} for key, of in DICE.items()}
    before, after = of(DICE), of(shifted)
    assert after.draws.deviation != pytest.approx(before.draws.deviation)
    assert after.repeats.deviation == pytest.approx(before.repeats.deviation)
    assert after.cases.deviation == pytest.approx(before.cases.deviation)


def test_the_table_says_how_many_or_nothing():
    results = make_results(DICE)
    (row,) = spread_table(results, METRICS["Dice"]).rows
    assert row[:2] == ["m", "3 training cases"]
    assert [cell[-4:] for cell in row[4:]] == [" (3)", " (2)", " (2)"]
    single = make_results({("0", 1): {"a": 0.5}}, Group("fold 0", ("0",)))
    assert spread_table(single, METRICS["Dice"]).rows == [["m", "fold 0", "0.500", *["\N{EN DASH}"] * 4]]


def test_absent_values_count_nowhere():
    assert deviation([[0.5, math.nan], [math.nan]]) == Deviation(pytest.approx(math.nan, nan_ok=True), 1)
