"""All scores of a comparison, and their means: over cases as nnU-Net takes them, over draws as the paper's table 1."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .metrics import Scores
from .runs import Run

MEAN = "mean"  # the name of the mean over classes among the classes, so that no class can have it


@dataclass(frozen=True)
class Group:
    """Folds whose results are averaged: the draws of one number of training cases, or all folds.

    Args:
        draws: of each fold that is a draw of the few-shot protocol, the number of the draw.
    """

    title: str
    folds: tuple[str, ...]
    training_cases: int | None = None
    draws: Mapping[str, int] = field(default_factory=dict)

    @property
    def named(self) -> str:
        """The title, and the folds where the title does not say them."""
        folds = "" if self.folds == ("",) else f"fold{'s' * (len(self.folds) > 1)} {', '.join(self.folds)}"
        return self.title if folds in ("", self.title) else f"{self.title}: {folds}"


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation over ``n`` folds; the deviation is NaN for one."""

    mean: float
    spread: float
    n: int


Key = tuple[str, str, int]
"""Which training it is: the method, the fold, and which of the repeats of one training, counted from 1."""


@dataclass(frozen=True, eq=False)
class Results:
    """What was measured; hashed by identity, so that what is computed of it can be kept.

    Args:
        methods: the first is what the others are compared with.
        runs: every method has every fold, as often as every other.
        scores: of each training by case; the same cases for all trainings of a fold.
        notes: sentences that a reader has to know before believing the numbers.
        interim: a part of a study that is not finished. It may claim no difference: the correction would leave out the
            comparisons that are still to come, and who looks at a growing study several times finds a false difference
            more often than once in 20 studies.
    """

    title: str
    methods: tuple[str, ...]
    classes: tuple[str, ...]
    tolerance: Mapping[str, float]
    groups: tuple[Group, ...]
    runs: Mapping[Key, Run]
    scores: Mapping[Key, Mapping[str, Scores]]
    notes: tuple[str, ...] = ()
    interim: bool = False

    @property
    def repeats(self) -> range:
        """The numbers of the repeats, from 1."""
        return range(1, 1 + max(repeat for _, _, repeat in self.scores))

    def trainings(self, method: str, group: Group) -> list[Key]:
        """All trainings of a method in a group, in the order of the folds."""
        return [(method, fold, repeat) for fold in group.folds for repeat in self.repeats]

    def of_training(self, training: Key, metric: str) -> dict[str, float]:
        """Per class the mean over cases, and the mean of these means: nnU-Net's ``mean`` and ``foreground_mean``.

        A class that no case has is left out of the mean over classes, where nnU-Net's mean becomes NaN. An infinite
        distance is left out too; :meth:`undefined` counts them.
        """
        cases = self.scores[training].values()
        means = {name: nanmean(finite(scores[name][metric]) for scores in cases) for name in self.classes}
        return means | {MEAN: nanmean(means.values())}

    def of_fold(self, method: str, fold: str, metric: str) -> dict[str, float]:
        """The numbers of :meth:`of_training`, averaged over the repeats of a fold."""
        repeats = [self.of_training((method, fold, repeat), metric) for repeat in self.repeats]
        return {name: nanmean(of[name] for of in repeats) for name in repeats[0]}

    def of_group(self, method: str, group: Group, metric: str) -> dict[str, Mean]:
        """Per class, and for the mean over classes: mean and spread over the folds, whose repeats are averaged."""
        folds = [self.of_fold(method, fold, metric) for fold in group.folds]
        return {name: mean_and_spread([fold[name] for fold in folds]) for name in (*self.classes, MEAN)}

    def cases_with(self, group: Group, name: str) -> list[int]:
        """For each training, in how many cases a class counts; for the mean, in how many any class does."""
        classes = self.classes if name == MEAN else (name,)
        return [
            sum(any(not math.isnan(of[key]["Dice"]) for key in classes) for of in self.scores[training].values())
            for method in self.methods
            for training in self.trainings(method, group)
        ]

    def all_scores(self, method: str, group: Group) -> list[Scores]:
        """The scores of all cases of all trainings of a method in a group."""
        return [scores for training in self.trainings(method, group) for scores in self.scores[training].values()]

    def undefined(self, method: str, group: Group, metric: str) -> dict[str, tuple[int, int]]:
        """Per class, and for all classes together: how many values of how many are infinite, over all cases."""
        cases = self.all_scores(method, group)
        values = {name: [scores[name][metric] for scores in cases] for name in self.classes}
        values[MEAN] = [value for of_class in values.values() for value in of_class]
        return {
            name: (sum(map(math.isinf, of_class)), sum(not math.isnan(value) for value in of_class))
            for name, of_class in values.items()
        }

    def of_cases(self, method: str, group: Group, metric: str) -> dict[str, float]:
        """Per case the mean over its classes, averaged over the trainings that were tested on the case."""
        values: dict[str, list[float]] = {}
        for training in self.trainings(method, group):
            for case, value in self.of_its_cases(training, metric).items():
                values.setdefault(case, []).append(value)
        return {case: nanmean(of_trainings) for case, of_trainings in sorted(values.items())}

    def of_its_cases(self, training: Key, metric: str) -> dict[str, float]:
        """Per case of a training the mean over its classes, without infinite distances."""
        cases = self.scores[training].items()
        return {case: nanmean(finite(values[metric]) for values in scores.values()) for case, scores in cases}


def finite(value: float) -> float:
    """The value, or NaN for the infinite distance to a surface that does not exist."""
    return value if math.isfinite(value) else math.nan


def nanmean(values: Iterable[float]) -> float:
    """Mean of the values that are defined; NaN where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "mean of empty slice"
        return float(np.nanmean(list(values)))


def mean_and_spread(values: Sequence[float]) -> Mean:
    """Mean and sample standard deviation of the values that are defined."""
    defined = [value for value in values if not math.isnan(value)]
    spread = float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan
    return Mean(nanmean(values) if values else math.nan, spread, len(defined))
