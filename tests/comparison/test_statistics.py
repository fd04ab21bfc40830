"""The paired comparison of two methods against SciPy, by symmetry, and on few cases."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from nnunetv2_tpmamba.comparison.statistics import MOST_EXACT, approximate_wilcoxon, compare_paired, exact_wilcoxon


@pytest.mark.parametrize("n", [1, 2, 5, 6, 13, 30, 52])
@pytest.mark.parametrize("seed", range(3))
def test_wilcoxon_is_scipy_s_without_equal_differences(n, seed):
    differences = np.random.default_rng(seed).normal(0.3, 1, n)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert exact_wilcoxon(differences) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_wilcoxon_with_equal_differences_counts_all_signs(seed):
    differences = np.random.default_rng(seed).integers(-3, 4, 9).astype(float)
    nonzero = differences[differences != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    sums = np.array([ranks @ np.array(signs) for signs in product([0, 1], repeat=len(nonzero))])
    seen, center = ranks[nonzero > 0].sum(), ranks.sum() / 2
    expected = np.mean(np.abs(sums - center) >= abs(seen - center) - 1e-9)
    assert exact_wilcoxon(differences) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("draw", ["normal", "integers"])
def test_many_differences_are_tested_as_scipy_approximates(draw):
    generator = np.random.default_rng(2)
    differences = generator.normal(0.05, 1, 500) if draw == "normal" else generator.integers(-4, 6, 500).astype(float)
    expected = stats.wilcoxon(differences, method="approx").pvalue
    assert approximate_wilcoxon(differences) == pytest.approx(expected, rel=1e-9)
    pair = compare_paired(np.zeros(500), differences)
    assert not pair.exact
    assert pair.p == pytest.approx(expected, rel=1e-9)


def test_the_approximation_follows_the_exact_test():
    differences = np.random.default_rng(3).normal(0.1, 1, MOST_EXACT)
    exact = compare_paired(np.zeros(MOST_EXACT), differences)
    assert exact.exact
    assert exact.p == exact_wilcoxon(differences) == pytest.approx(approximate_wilcoxon(differences), rel=0.01)


def test_zeros_do_not_count_to_the_number_that_is_exact():
    differences = np.array([0.0] * 300 + [0.1, 0.2, -0.3])
    assert compare_paired(np.zeros(303), differences).exact


@pytest.mark.parametrize("sign", [1, -1])
def test_no_direction_where_mean_and_ranks_disagree(sign):
    """One large difference outweighs 19 small ones in the mean, but not by ranks."""
    pair = compare_paired(np.zeros(20), sign * np.array([0.01] * 19 + [-0.9]))
    assert pair.p < 0.05
    assert pair.mean * sign < 0 < pair.rank_biserial * sign
    higher, lower, mean = (19, 1, "-0.0355") if sign > 0 else (1, 19, "+0.0355")
    by_ranks = "higher" if sign > 0 else "lower"
    assert pair.verdict() == (
        f"p = {pair.p:.2g}, but mean and ranks disagree: {by_ranks} by ranks ({higher} cases higher, {lower} lower), "
        f"yet {mean} in the mean; look at the single cases"
    )


def test_direction_is_of_the_ranks_not_of_the_number_of_wins():
    pair = compare_paired(np.zeros(14), [-0.01] * 4 + [0.1] * 10)
    assert pair.verdict().startswith("significantly higher")
    assert pair.rank_biserial == pytest.approx((95 - 10) / 105)


def test_identical_methods_do_not_differ():
    pair = compare_paired([0.8, 0.9, 0.7] * 10, [0.8, 0.9, 0.7] * 10)
    assert (pair.mean, pair.interval, pair.p) == (0, (0, 0), 1)
    assert (pair.wins, pair.ties, pair.losses) == (0, 30, 0)
    assert pair.verdict() == "no difference in any of 30 cases"


def test_five_pairs_are_never_significant():
    pair = compare_paired([0.1, 0.2, 0.3, 0.4, 0.5], [0.9] * 5)
    assert pair.p == pair.smallest_p == 0.0625
    assert "signific" not in pair.verdict()
    assert "5 differing of 5 cases" in pair.verdict()


@pytest.mark.parametrize("n", [6, 20])
def test_six_pairs_in_one_direction_are(n):
    low, high = np.linspace(0.1, 0.5, n), np.linspace(0.3, 0.9, n)
    assert compare_paired(low, high).verdict().startswith(f"significantly higher in {n} cases")
    assert compare_paired(high, low).verdict().startswith(f"significantly lower in {n} cases")


@pytest.mark.parametrize(("n", "shown"), [(2, False), (5, False), (6, True)])
def test_no_interval_of_so_few_cases_that_it_would_be_far_too_narrow(n, shown):
    low, high = compare_paired(np.zeros(n), np.arange(1.0, n + 1)).interval
    assert math.isfinite(low) == math.isfinite(high) == shown


def test_intervals_of_52_pairs_hold_the_true_difference_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held, widths = 0, []
    for _ in range(100):
        low, high = compare_paired(np.zeros(52), generator.normal(0.02, 0.05, 52)).interval
        held += low <= 0.02 <= high
        widths.append(high - low)
    assert 88 <= held <= 99
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.05 / math.sqrt(52), rel=0.1)


def test_swapping_the_methods_mirrors_the_result():
    generator = np.random.default_rng(1)
    a, b = generator.uniform(size=(2, 20))
    one, other = compare_paired(a, b), compare_paired(b, a)
    assert one.mean == pytest.approx(-other.mean)
    assert one.p == pytest.approx(other.p)
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_scores_are_paired_in_the_order_given():
    """Both methods have the same scores, on other cases: sorted, they would not differ at all."""
    a = np.linspace(0.1, 0.9, 9)
    b = np.roll(a, 1)  # eight cases a little lower, one much higher
    pair = compare_paired(a, b)
    assert (pair.wins, pair.ties, pair.losses) == (1, 0, 8)
    assert (pair.mean, pair.median) == (pytest.approx(0), pytest.approx(-0.1))


def test_pairs_with_nan_do_not_count():
    pair = compare_paired([0.5, math.nan, 0.5, 0.5], [0.6, 0.9, math.nan, 0.4])
    assert (pair.n, pair.wins, pair.losses) == (2, 1, 1)


def test_one_case_and_none():
    one = compare_paired([0.5], [0.6])
    assert (one.n, one.p) == (1, 1)
    assert all(map(math.isnan, one.interval))
    none = compare_paired([math.nan], [0.6])
    assert none.n == 0
    assert math.isnan(none.p)
    assert none.verdict() == "no case to compare"


def test_different_numbers_of_cases_are_refused():
    with pytest.raises(ValueError, match="2 and 1 cases"):
        compare_paired([1, 2], [1])
