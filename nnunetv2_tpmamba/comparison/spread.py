"""How far the numbers of one method scatter, by what they scatter over: cases, draws, and repeated trainings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .document import DASH, Block, Heading, Table, defined
from .metrics import METRICS, Metric
from .results import MEAN, Group, Results, nanmean
from .statistics import DIGITS, t_interval


@dataclass(frozen=True)
class Deviation:
    """A sample standard deviation of ``n`` values; NaN for fewer than two."""

    deviation: float
    n: int


@dataclass(frozen=True)
class Spread:
    """The mean of one method over the test cases of a group, and three deviations that are never added up.

    Args:
        mean: over cases of the mean over classes, averaged over the trainings that were tested on a case.
        interval: 95 % interval of the mean for other test cases; see :func:`~.statistics.t_interval`.
        cases: over cases.
        draws: over the draws of training cases, whose means over the same test cases these are, repeats averaged. It
            holds what is left of the scatter over repeats.
        repeats: over repeats of the same training; of several folds the root of the mean variance.
    """

    mean: float
    interval: tuple[float, float]
    cases: Deviation
    draws: Deviation
    repeats: Deviation


def spread(results: Results, method: str, group: Group, metric: str) -> Spread:
    """Measure the spread of a method in a group."""
    values = [value for value in results.of_cases(method, group, metric).values() if not math.isnan(value)]
    draws = [results.of_fold(method, fold, metric)[MEAN] for fold in group.draws]
    return Spread(
        nanmean(values) if values else math.nan,
        t_interval(np.round(values, DIGITS)) if values else (math.nan, math.nan),
        deviation([values]),
        deviation([draws]),
        deviation(
            [
                [results.of_training((method, fold, repeat), metric)[MEAN] for repeat in results.repeats]
                for fold in group.folds
            ]
        ),
    )


def deviation(groups: Sequence[Sequence[float]]) -> Deviation:
    """The deviation within groups of values: the root of the mean of their sample variances."""
    known = [np.array([value for value in group if not math.isnan(value)]) for group in groups]
    variances = [group.var(ddof=1) for group in known if len(group) > 1]
    return Deviation(math.sqrt(np.mean(variances)) if variances else math.nan, max(map(len, known), default=0))


def spread_blocks(results: Results) -> list[Block]:
    """What the report says of each method's own mean and its spread."""
    blocks: list[Block] = [Heading("Each method's mean and its spread")]
    for metric in METRICS.values():
        blocks += [Heading(f"{metric.label}, mean over classes", 3), spread_table(results, metric)]
    return blocks


EXPLANATION = (
    "Mean: over test cases, of the mean over classes. 95 % interval: Student's t, for other test cases of the same "
    "kind; it says nothing about other training cases or another training. The deviations answer three questions and "
    "are never mixed: how much one test case differs from the next (over cases), how much the choice of the training "
    "cases matters (over draws, which have the same test cases), and how much the luck of a training does (over "
    "repeats of the same training). In brackets: of how many. The deviation over draws holds the luck of the trainings "
    f"too, which only repeats can tell apart. {DASH}: fewer than two, or all equal."
)


def spread_table(results: Results, metric: Metric) -> Table:
    """A row per group and method."""
    rows = []
    for group in results.groups:
        for method in results.methods:
            of = spread(results, method, group, metric.name)
            low, high = (defined(value, metric.form) for value in of.interval)
            rows.append(
                [
                    method,
                    group.title,
                    defined(of.mean, metric.form),
                    DASH if DASH in (low, high) else f"{low} to {high}",
                    *(shown(each, metric.form) for each in (of.cases, of.draws, of.repeats)),
                ]
            )
    return Table(["method", "on", "mean", "95 % interval", "over cases", "over draws", "over repeats"], rows)


def shown(deviation: Deviation, form: str) -> str:
    """A deviation with the number of its values, or a dash."""
    return DASH if math.isnan(deviation.deviation) else f"{deviation.deviation:{form}} ({deviation.n})"
