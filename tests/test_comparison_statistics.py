import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from nnunetv2_tpmamba.comparison.statistics import compare_paired, exact_wilcoxon


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
