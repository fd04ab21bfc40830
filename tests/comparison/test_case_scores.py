"""Which scores are paired and ranked, made by hand so that another order or another mean gives another number."""

import math

import numpy as np
import pytest

from nnunetv2_tpmamba.comparison.case_scores import CaseScores, mean_of_defined
from nnunetv2_tpmamba.comparison.results import Group, Results

NAN, INF = math.nan, math.inf


def make_scores(scores, metric="Dice"):
    """``scores``: for each method and fold, of each case a number for each class."""
    classes = ("liver", "spleen")
    of_classes = {
        (*key, 1): {
            case: {name: {metric: value} for name, value in zip(classes, values, strict=True)}
            for case, values in cases.items()
        }
        for key, cases in scores.items()
    }
    methods = tuple(dict.fromkeys(method for method, _ in scores))
    group = Group("", tuple(dict.fromkeys(fold for _, fold in scores)))
    return CaseScores.of(Results("", methods, classes, {}, (group,), {}, of_classes), group, metric)


class TestCompare:
    def test_draws_of_one_case_are_averaged_before_cases_are_paired(self):
        """Every single draw says something else than the mean of both: by draw 0 B wins, by draw 1 A does."""
        pair = make_scores(
            {
                ("A", "0"): {"a": (0.25, 0.25), "b": (0.5, 0.5)},
                ("A", "1"): {"b": (1.0, 1.0), "a": (0.75, 0.75)},
                ("B", "0"): {"a": (1.0, 1.0), "b": (0.75, 0.75)},
                ("B", "1"): {"b": (0.5, 0.5), "a": (0.25, 0.25)},
            }
        ).compare("B", "A")
        assert (pair.n, pair.wins, pair.losses) == (2, 1, 1)
        assert pair.means == (0.625, 0.625)
        assert (pair.mean, pair.median) == (0.0, 0.0)

    def test_cases_are_paired_by_their_names(self):
        """B is worse on the cases that A finds easy: sorted by score, every pair would be a tie."""
        easy_first = {f"case_{i}": (0.1 * i, 0.1 * i) for i in range(10)}
        hard_first = {f"case_{i}": (0.1 * (9 - i), 0.1 * (9 - i)) for i in reversed(range(10))}
        pair = make_scores({("A", "0"): easy_first, ("B", "0"): hard_first}).compare("B", "A")
        assert (pair.wins, pair.ties, pair.losses) == (5, 0, 5)
        assert pair.median == pytest.approx(0, abs=1e-12)
        assert pair.interval[0] < -0.3 < 0.3 < pair.interval[1]

    def test_one_case_that_differs_is_the_one_win(self):
        """The order of the cases in the scores plays no part."""
        scores = {f"case_{i}": (0.5 + 0.01 * i,) * 2 for i in range(8)}
        better = dict(reversed([*scores.items()])) | {"case_3": (0.9, 0.9)}
        pair = make_scores({("A", "0"): scores, ("B", "0"): better}, "NSD").compare("B", "A")
        assert (pair.wins, pair.ties, pair.losses) == (1, 7, 0)
        assert pair.mean == pytest.approx((0.9 - 0.53) / 8)

    def test_classes_are_averaged_in_each_case_or_compared_alone(self):
        scores = make_scores(
            {
                ("A", "0"): {"a": (0.2, 0.4), "b": (NAN, 0.5), "c": (NAN, NAN)},
                ("B", "0"): {"a": (0.6, 0.4), "b": (NAN, 0.9), "c": (NAN, NAN)},
            }
        )
        mean, liver, spleen = (scores.compare("B", "A", *name) for name in ((), ("liver",), ("spleen",)))
        assert (mean.n, liver.n, spleen.n) == (2, 1, 2)
        assert mean.means == pytest.approx(((0.5 + 0.9) / 2, (0.3 + 0.5) / 2))
        assert liver.means == pytest.approx((0.6, 0.2))
        assert spleen.means == pytest.approx((0.65, 0.45))

    def test_a_distance_that_one_method_lacks_is_left_out_for_both(self):
        """B misses the liver that A finds hard. By A's mean over both classes, 11, B would be far better."""
        scores = make_scores(
            {("A", "0"): {"a": (20.0, 2.0), "b": (4.0, 4.0)}, ("B", "0"): {"a": (INF, 3.0), "b": (5.0, 5.0)}}, "HD95"
        )
        pair = scores.compare("B", "A")
        assert (pair.wins, pair.losses) == (0, 2)
        assert pair.means == (4.0, 3.0)
        assert scores.compare("B", "A", "liver").n == 1


class TestRanks:
    def test_methods_are_ranked_on_every_structure_before_any_mean(self):
        """A is best on three of four structures, though not in the mean."""
        scores = make_scores(
            {
                ("A", "0"): {"a": (0.1, 0.9), "b": (0.9, 0.9)},
                ("B", "0"): {"a": (0.8, 0.8), "b": (0.8, 0.8)},
                ("C", "0"): {"a": (0.7, 0.7), "b": (0.7, 0.8)},
            }
        )
        assert np.allclose(scores.ranks(), [[2.0, 1.0], [1.5, 2.25], [2.5, 2.75]])

    def test_draws_of_a_case_are_averaged(self):
        draws = {("A", "0"): 0.9, ("A", "1"): 0.9, ("B", "0"): 0.5, ("B", "1"): 1.0}
        assert np.allclose(make_scores({key: {"a": (of, of)} for key, of in draws.items()}).ranks(), [[1.5], [1.5]])

    def test_the_smallest_distance_is_the_best_and_an_infinite_one_the_last(self):
        values = {"A": (2.0, INF), "B": (1.0, 30.0), "C": (INF, INF)}
        scores = make_scores({(method, "0"): {"a": of} for method, of in values.items()}, "HD95")
        assert np.allclose(scores.ranks()[:, 0], [(2 + 2.5) / 2, 1, (3 + 2.5) / 2])

    @pytest.mark.parametrize(("metric", "invented"), [("Dice", 0.0), ("HD95", INF)])
    def test_who_invents_a_structure_stands_behind_who_does_not(self, metric, invented):
        scores = make_scores(
            {
                ("A", "0"): {"a": (NAN, NAN), "b": (NAN, NAN)},
                ("B", "0"): {"a": (invented, NAN), "b": (NAN, NAN)},
                ("C", "0"): {"a": (NAN, NAN), "b": (NAN, NAN)},
            },
            metric,
        )
        assert np.allclose(scores.ranks(), [[1.5], [3.0], [1.5]])  # nothing is in case b


def test_mean_of_defined_is_numpy_s():
    values = np.array([[1.0, NAN, 2.0], [INF, 1.0, NAN]])
    assert mean_of_defined(values).tolist() == np.nanmean(values, axis=-1).tolist()
    assert np.isnan(mean_of_defined(np.array([NAN, NAN])))
