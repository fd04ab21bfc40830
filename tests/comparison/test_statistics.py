"""The paired comparison of two methods against SciPy, by hand, by symmetry, by simulation, and on few cases."""

import math
from itertools import product
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from nnunetv2_tpmamba.comparison.statistics import (
    MOST_EXACT,
    MOST_PERMUTED,
    compare_paired,
    fewest_cases,
    signed_rank_p,
    t_interval,
)


def p_of_all_signs(differences):
    """The signed-rank test by its definition: the part of all signs whose sum of ranks lies as far from the middle."""
    nonzero = differences[differences != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    sums = np.array(list(product([0, 1], repeat=len(nonzero)))) @ ranks
    seen, center = ranks[nonzero > 0].sum(), ranks.sum() / 2
    return np.mean(np.abs(sums - center) >= abs(seen - center) - 1e-9)


def test_five_cases_by_hand():
    """The sizes 1 2 2 4 5 have the ranks 1 2.5 2.5 4 5, and the loss is one of the 2.5.

    Of the 2 ** 5 signs, four have losses of ranks up to 2.5: none, 1, and either 2.5; four have such wins.
    """
    pair = compare_paired([0.5] * 5, [0.51, 0.52, 0.48, 0.54, 0.55])
    assert (pair.n, pair.wins, pair.ties, pair.losses) == (5, 4, 0, 1)
    assert pair.means == (pytest.approx(0.52), 0.5)
    assert (pair.mean, pair.median) == (pytest.approx(0.02), pytest.approx(0.02))
    assert pair.rank_biserial == pytest.approx((12.5 - 2.5) / 15)
    assert pair.p == 8 / 32
    assert pair.smallest_p == 2 / 32
    half_width = 2.776445 * math.sqrt((1 + 0 + 16 + 4 + 9) / 4 / 5) / 100  # Student's t of 4 degrees of freedom
    assert pair.interval == pytest.approx((0.02 - half_width, 0.02 + half_width), abs=1e-8)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 13, 30, MOST_EXACT])
@pytest.mark.parametrize("seed", range(3))
def test_p_is_scipy_s_exact_one_without_equal_differences(n, seed):
    differences = np.random.default_rng(seed).normal(0.3, 1, n)
    assert signed_rank_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [2, 9, MOST_PERMUTED])
@pytest.mark.parametrize("seed", range(3))
def test_p_with_equal_differences_counts_all_signs(n, seed):
    differences = np.random.default_rng(seed).integers(-3, 4, n).astype(float)
    assert signed_rank_p(differences) == pytest.approx(p_of_all_signs(differences), rel=1e-9)


@pytest.mark.parametrize("n", [MOST_PERMUTED + 1, MOST_EXACT + 1, 500])
def test_beyond_the_exact_tests_p_is_scipy_s_approximation(n):
    generator = np.random.default_rng(n)
    differences = generator.choice([-3, -2, -1, 1, 2, 3, 4, 5], n).astype(float)
    if n > MOST_EXACT:
        differences += generator.normal(0, 0.1, n)
    expected = stats.wilcoxon(differences, method="asymptotic").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)


def test_cases_without_a_difference_do_not_count():
    differences = np.array([0.0] * 300 + [0.1, 0.2, -0.3])
    assert signed_rank_p(differences) == signed_rank_p(differences[300:]) == 1


def test_differences_that_only_floating_point_arithmetic_tells_apart_are_equal():
    pair = compare_paired([0.1, 0.2, 0.3, 0.7], [0.1 + 0.2, 0.2 + 0.2, 0.3 + 0.2, 0.1 + 0.6])
    assert (pair.wins, pair.ties, pair.losses) == (3, 1, 0)
    assert pair.p == 2 / 8


def test_of_a_distance_less_is_better():
    """The differences keep their sign, and wins and rank-biserial say what is better."""
    a, b = np.random.default_rng(4).uniform(1, 9, (2, 20))
    distance, score = compare_paired(a, b, higher_is_better=False), compare_paired(a, b)
    assert (distance.wins, distance.losses, distance.rank_biserial) == (score.losses, score.wins, -score.rank_biserial)
    assert (distance.mean, distance.interval, distance.p) == (score.mean, score.interval, score.p)
    assert distance.mean_and_ranks_agree == score.mean_and_ranks_agree


@pytest.mark.parametrize("sign", [1, -1])
def test_mean_and_ranks_can_disagree(sign):
    """One large difference outweighs 19 small ones in the mean, but not by ranks."""
    pair = compare_paired(np.zeros(20), sign * np.array([0.01] * 19 + [-0.9]))
    assert pair.p < 0.05
    assert pair.mean * sign < 0 < pair.rank_biserial * sign
    assert not pair.mean_and_ranks_agree


def test_rank_biserial_is_of_the_ranks_not_of_the_number_of_wins():
    pair = compare_paired(np.zeros(14), [-0.01] * 4 + [0.1] * 10)
    assert pair.rank_biserial == pytest.approx((95 - 10) / 105)


def test_identical_methods_do_not_differ():
    pair = compare_paired([0.8, 0.9, 0.7] * 10, [0.8, 0.9, 0.7] * 10)
    assert (pair.mean, pair.rank_biserial, pair.p) == (0, 0, 1)
    assert (pair.wins, pair.ties, pair.losses) == (0, 30, 0)
    assert all(map(math.isnan, pair.interval))


@pytest.mark.parametrize(("tests", "cases"), [(1, 6), (2, 7), (24, 10)])
def test_the_fewest_cases_for_so_many_tests(tests, cases):
    """The smallest p of n cases is 2 / 2 ** n; a corrected one is up to the number of tests as large."""
    assert fewest_cases(tests) == cases
    assert tests * compare_paired(np.zeros(cases), np.arange(1, cases + 1)).p < 0.05
    assert tests * compare_paired(np.zeros(cases - 1), np.arange(1, cases)).p >= 0.05


class TestInterval:
    """How many of 2000 intervals hold the true mean; the standard error of such a part is below 0.7 %."""

    DISTRIBUTIONS: ClassVar = {
        "normal": (lambda generator, size: generator.normal(0.02, 0.05, size), 0.02),
        "two Dice": (lambda generator, size: generator.beta(8, 2, size) - generator.beta(30, 5, size), 0.8 - 30 / 35),
        "most near zero": (lambda generator, size: generator.beta(1, 9, size), 0.1),
    }

    def coverage(self, name, n, interval=t_interval, repetitions=2000):
        draw, mean = self.DISTRIBUTIONS[name]
        intervals = map(interval, draw(np.random.default_rng(0), (repetitions, n)))
        return np.mean([low <= mean <= high for low, high in intervals])

    @pytest.mark.parametrize("n", [6, 20, 52])
    @pytest.mark.parametrize("name", ["normal", "two Dice"])
    def test_holds_what_it_says(self, name, n):
        assert 0.93 <= self.coverage(name, n) <= 0.97

    @pytest.mark.parametrize(("n", "stated"), [(6, 0.90), (20, 0.93), (52, 0.94)])
    def test_falls_as_short_as_stated_where_few_differences_are_large(self, n, stated):
        assert self.coverage("most near zero", n) == pytest.approx(stated, abs=0.015)

    def test_of_bca_bootstraps_falls_shorter(self):
        def bca(differences):
            return stats.bootstrap((differences,), np.mean, n_resamples=999, method="BCa").confidence_interval

        assert self.coverage("normal", 6, bca, repetitions=300) < 0.91

    def test_is_scipy_s(self):
        differences = np.random.default_rng(1).normal(size=9)
        expected = stats.ttest_1samp(differences, 0).confidence_interval()
        assert t_interval(differences) == pytest.approx((expected.low, expected.high))

    @pytest.mark.parametrize("differences", [[], [0.1], [0.1] * 6])
    def test_of_differences_that_do_not_vary_is_not_defined(self, differences):
        assert all(map(math.isnan, t_interval(np.array(differences))))


def test_swapping_the_methods_mirrors_the_result():
    a, b = np.random.default_rng(1).uniform(size=(2, 20))
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
    none = compare_paired([math.nan], [0.6])
    assert none.n == 0
    assert math.isnan(none.p)
    assert math.isnan(none.mean)


def test_different_numbers_of_cases_are_refused():
    with pytest.raises(ValueError, match="2 and 1 cases"):
        compare_paired([1, 2], [1])
