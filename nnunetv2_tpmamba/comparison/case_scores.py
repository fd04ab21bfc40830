"""The scores of a group of folds as an array, to compare methods on the same cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .metrics import METRICS
from .results import MEAN, Group, Results
from .statistics import DIGITS, Paired, compare_paired


@dataclass(frozen=True)
class CaseScores:
    """All scores of one metric in one group.

    A test is a case with one training; a case that several draws or repeats were tested on is several tests.

    Args:
        values: ``(methods, tests, classes)``; NaN where truth and prediction lack the class, infinite where one of the
            two does and the metric is a distance.
        of_case: ``(tests, cases)``, 1 where the test is of the case.
    """

    methods: Sequence[str]
    classes: Sequence[str]
    values: np.ndarray
    of_case: np.ndarray
    higher_is_better: bool

    @classmethod
    def of(cls, results: Results, group: Group, metric: str) -> "CaseScores":
        """Collect the scores of a group."""
        first = results.methods[0]
        trainings = results.trainings(first, group)
        tests = [(fold, repeat, case) for _, fold, repeat in trainings for case in results.scores[first, fold, repeat]]
        values = [
            [
                [results.scores[method, fold, repeat][case][name][metric] for name in results.classes]
                for fold, repeat, case in tests
            ]
            for method in results.methods
        ]
        cases = np.array([case for _, _, case in tests])
        of_case = (cases[:, None] == np.unique(cases)).astype(float)
        return cls(results.methods, results.classes, np.array(values), of_case, METRICS[metric].higher_is_better)

    def compare(self, method: str, baseline: str, name: str = MEAN) -> Paired:
        """Compare two methods case by case, by the mean over classes or by one class.

        A distance that is infinite for one of the two is left out for both, so that both means are of the same classes.
        Draws and repeats tested on one case are averaged, because they are no independent pairs.
        """
        values = self.values[[self.methods.index(baseline), self.methods.index(method)]]
        if name != MEAN:
            values = values[..., [self.classes.index(name)]]
        values = mean_of_defined(np.where(np.isinf(values).any(axis=0), np.nan, values))
        values = np.where(np.isnan(values).any(axis=0), np.nan, values)
        first, other = self.of_cases(values)
        return compare_paired(first, other, self.higher_is_better)

    def ranks(self) -> np.ndarray:
        """Mean rank of each method on each case, over its structures and trainings; 1 is the best.

        The methods are ranked on every structure of every test, and equal ones share their mean rank. Where a structure
        is rightly absent a method is first, and with an infinite distance last; the structures that all methods rightly
        lack count for nothing.

        Shape:
            output ``(methods, cases)``, without cases that have no structure.
        """
        worth = np.round(self.values if self.higher_is_better else -self.values, DIGITS)
        absent = np.isnan(worth)
        ranks = rankdata(-np.where(absent, np.inf, worth), axis=0)
        means = mean_of_defined(np.where(absent.all(axis=0), np.nan, ranks))
        of_cases = self.of_cases(means)
        return of_cases[:, ~np.isnan(of_cases).any(axis=0)]

    def of_cases(self, of_tests: np.ndarray) -> np.ndarray:
        """Average the trainings that were tested on each case.

        Shape:
            input ``(methods, tests)``, output ``(methods, cases)``.
        """
        return mean_of_defined(of_tests[:, None] * np.where(self.of_case.T, 1, np.nan))


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=-1)
    total = np.where(defined, values, 0).sum(axis=-1)
    return np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)
