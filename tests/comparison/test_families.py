"""Holm's correction over families of comparisons, what it lets a verdict say, and how often it says something false."""

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from nnunetv2_tpmamba.comparison.families import Family, holm
from nnunetv2_tpmamba.comparison.statistics import compare_paired


def family(*differences, confirmatory=True):
    return Family({i: compare_paired(np.zeros(len(of)), of) for i, of in enumerate(differences)}, confirmatory)


def verdicts(of):
    return [of.verdict(key) for key in of.comparisons]


def test_holm_by_hand():
    """The smallest of four times 4, the next times 3, ...; none smaller than the one before it, and none above 1."""
    assert holm([0.02, 0.01, 0.6, 0.024]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.7, 0.8]) == [1, 1]


def test_holm_leaves_out_what_is_no_test():
    p = [0.02, math.nan, 0.03]
    assert holm(p) == pytest.approx([0.04, math.nan, 0.04], nan_ok=True)
    assert np.isnan(holm([math.nan])).all()
    assert holm([]) == []


def test_a_family_is_corrected_as_statsmodels_does():
    of = family(*np.random.default_rng(0).normal(0.5, 1, (7, 20)))
    expected = multipletests([pair.p for pair in of.comparisons.values()], method="holm")[1]
    assert list(of.corrected.values()) == pytest.approx(list(expected))


def test_one_test_of_six_cases_can_claim_a_difference_and_two_never():
    better = np.arange(1.0, 7)
    assert verdicts(family(better)) == ["significantly better"]
    assert verdicts(family(-better)) == ["significantly worse"]
    two = family(better, better)
    assert list(two.corrected.values()) == [0.0625, 0.0625]
    assert verdicts(two) == ["too few cases"] * 2
    assert two.support() == (
        "2 tests with up to 6 differing cases: the corrected p is 0.0625 at best, so no difference can be shown, "
        "however large it is."
    )


def test_too_few_cases_of_one_comparison_do_not_hide_that_another_has_enough():
    of = family(np.arange(1.0, 53), [0.1, 0.2, 0.3])
    assert of.support() == "2 tests with up to 52 differing cases: the corrected p is 8.88e-16 at best."
    assert verdicts(of) == ["significantly better", "too few cases"]
    assert of.at_best == {0: pytest.approx(2 * 2**-51), 1: 0.25}


def test_only_a_confirmatory_family_claims():
    assert verdicts(family(np.arange(1.0, 53), confirmatory=False)) == ["better, exploratory"]


def test_p_counts_after_its_correction():
    """0.037 alone, 0.074 of two."""
    differences = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]) * [-1, -1, 1, -1, 1, 1, 1, 1, 1, 1]
    assert verdicts(family(differences)) == ["significantly better"]
    assert verdicts(family(differences, differences)) == ["no difference shown"] * 2


@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_is_claimed_where_mean_and_ranks_disagree(sign):
    of = family(sign * np.array([0.01] * 19 + [-0.9]))
    assert of.corrected[0] < 0.05
    assert verdicts(of) == [f"{'better' if sign > 0 else 'worse'} by ranks, but not in the mean"]


def test_nothing_to_compare_and_nothing_that_differs():
    of = family([math.nan], [0.0, 0.0])
    assert verdicts(of) == ["no case to compare", "no case differs"]
    assert of.tests == 1
    assert family([math.nan]).support() == "No case to compare."


def reports_that_claim(cases, repetitions, methods=13):
    """How many of some reports on equal methods claim a difference.

    The methods are scored on the same cases and share the baseline, so that the tests of a report are dependent.
    """
    generator = np.random.default_rng(cases)
    claiming = 0
    for _ in range(repetitions):
        difficulty = generator.normal(0, 1, cases)
        baseline, *others = difficulty + generator.normal(0, 1, (methods, cases))
        of = Family({i: compare_paired(baseline, other) for i, other in enumerate(others)}, confirmatory=True)
        claiming += any("signific" in verdict for verdict in verdicts(of))
    return claiming


@pytest.mark.parametrize(
    ("cases", "repetitions"), [(6, 50), (52, 200), *(pytest.param(n, 2000, marks=pytest.mark.slow) for n in (6, 52))]
)
def test_at_most_one_of_twenty_reports_on_equal_methods_claims_a_difference(cases, repetitions):
    """Up to two standard errors above 5 %."""
    most = 0.05 + 2 * math.sqrt(0.05 * 0.95 / repetitions)
    assert reports_that_claim(cases, repetitions) <= most * repetitions
