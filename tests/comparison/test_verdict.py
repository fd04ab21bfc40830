"""The three sentences on top of a report, of scores made by hand."""

import pytest

from nnunetv2_tpmamba.comparison.metrics import METRICS, PREDICTION_ML, TRUTH_ML
from nnunetv2_tpmamba.comparison.paired_tables import case_by_case
from nnunetv2_tpmamba.comparison.results import Group, Results
from nnunetv2_tpmamba.comparison.verdict import listed, verdict

FOLD = (Group("24 training cases", ("0",), 24),)


def make_results(dice, groups=FOLD, notes=(), repeats=1, missed=(), interim=False):
    """``dice``: of each method, of each case; ``missed`` are methods whose predictions are empty."""
    scores = {
        (method, fold, 1 + repeat): {
            f"case_{i:02d}": {
                "liver": dict.fromkeys(METRICS, value) | {TRUTH_ML: 1.0, PREDICTION_ML: float(method not in missed)}
            }
            for i, value in enumerate(values)
        }
        for method, values in dice.items()
        for fold in [fold for group in groups for fold in group.folds]
        for repeat in range(repeats)
    }
    return Results("", tuple(dice), ("liver",), {}, groups, {}, scores, notes, interim)


def sentences(*arguments, **options):
    return [each.rstrip(".") for each in verdict(make_results(*arguments, **options)).split(". ")]


def test_a_difference_that_the_cases_carry_is_claimed():
    cases = [0.5 + 0.01 * i for i in range(10)]
    ahead, carried, limits = sentences({"A": cases, "B": [value + 0.1 for value in cases]})
    assert ahead == "On 24 training cases B has the highest mean Dice, 0.645 (the baseline A: 0.545)"
    assert carried.endswith("below 0.05): B significantly better on 24 training cases")
    once = "every training was made once, so what a second one would give is not known"
    assert limits == f"No structure was missed or invented; {once}"


def test_before_a_study_is_finished_nothing_is_claimed():
    cases = [0.5 + 0.01 * i for i in range(10)]
    dice = {"A": cases, "B": [value + 0.1 for value in cases]}
    assert "significantly" in verdict(make_results(dice))
    results = make_results(dice, interim=True)
    assert "The study is not finished, so nothing is claimed of 1 comparison with the baseline yet." in verdict(results)
    blocks = str(case_by_case(results))
    assert "no table claims a difference" in blocks
    assert "better, exploratory" in blocks
    assert "significantly" not in verdict(results) + blocks


def test_the_same_difference_in_three_cases_is_not():
    _, carried, _ = sentences({"A": [0.1, 0.2, 0.3], "B": [0.5, 0.7, 0.9]})
    few = "So few differing cases cannot show any difference"
    assert carried == f"{few} in 1 comparison with the baseline, however large it is"


def test_more_comparisons_ask_for_more_cases():
    cases = [0.5 + 0.01 * i for i in range(6)]
    dice = {"A": cases} | {name: [value + 0.1 for value in cases] for name in "BCDEFG"}
    assert "significantly" in sentences({name: dice[name] for name in "AB"})[1]
    assert sentences(dice)[1].startswith("So few differing cases cannot show any difference in 6 comparisons")


def test_equal_methods_are_neither_ahead_nor_called_too_few_cases():
    cases = [0.5 + 0.01 * i for i in range(24)]
    ahead, carried, _ = sentences({"A": cases, "B": cases, "C": [value - 0.1 for value in cases]})
    assert ahead == "On 24 training cases A, B share the highest mean Dice, 0.615"
    assert "C significantly worse" in carried
    ahead, carried, _ = sentences({"A": cases, "B": cases[::-1]})  # equal means of unequal cases
    assert ahead.startswith("On 24 training cases A, B share the highest")
    assert carried.startswith("None of 1 comparison")
    _, carried, _ = sentences({"A": cases, "B": cases})
    assert carried == "No case differs in 1 comparison with the baseline"


def test_of_folders_no_number_of_trainings_is_claimed():
    *_, limits = sentences({"A": [0.5], "B": [0.6]}, groups=(Group("all cases", ("",)),))
    assert limits.endswith("folders of predictions do not say what a second training of each method would give")


def test_no_difference_proves_nothing():
    cases = [0.5 + 0.01 * i for i in range(10)]
    other = [value + (-1) ** (i + 1) * 0.001 * (10 - i) for i, value in enumerate(cases)]
    ahead, carried, _ = sentences({"A": cases, "B": other})
    assert carried.startswith("None of 1 comparison with the baseline shows a difference")
    assert "does not prove" in carried
    assert ahead == "On 24 training cases A has the highest mean Dice, 0.545"


def test_every_group_has_its_best():
    groups = (*FOLD, Group("3 training cases", ("1",), 3))
    ahead, *_ = sentences({"A": [0.5, 0.7], "B": [0.4, 0.6]}, groups=groups)
    best = "training cases A has the highest mean Dice, 0.600"
    assert ahead == f"On 24 {best}; on 3 {best}"


def test_one_method():
    ahead, carried, _ = sentences({"A": [0.5, 0.7]})
    assert ahead == "On 24 training cases A has a mean Dice of 0.600"
    assert carried == "A single method is compared with nothing"


def test_what_limits_it_is_said():
    dice = {"A": [0.5, 0.7], "B": [0.0, 0.0]}
    *_, limits = sentences(dice, notes=("Epochs differ.",), repeats=2, missed=("B",))
    assert limits == (
        "Structures were missed or invented by B; every training was made 2 times; read the 1 note below before you "
        "believe the numbers"
    )


@pytest.mark.parametrize(("number", "text"), [(1, "0"), (3, "0, 1, 2"), (5, "0, 1, 2 and 2 more")])
def test_of_many_names_a_few_are_said(number, text):
    assert listed(map(str, range(number))) == text
