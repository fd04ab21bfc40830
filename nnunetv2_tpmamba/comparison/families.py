"""Which comparisons are corrected together for their number, and what may then be said about each."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Generic, TypeVar

import numpy as np
from statsmodels.stats.multitest import multipletests

from .case_scores import CaseScores
from .metrics import METRICS
from .results import Results
from .statistics import LEVEL, Paired, smallest_p

PRIMARY = "Dice"  # the metric whose comparisons may claim a difference
Key = TypeVar("Key")


@dataclass(frozen=True)
class Family(Generic[Key]):
    """Comparisons whose p are corrected together, so that all of them claim nothing false with probability 0.95.

    Args:
        comparisons: those without any case count as no test.
        confirmatory: whether its verdicts may claim a difference. In a report only one family may: the promise that at
            most 5 % of the reports of equal methods claim something is about reports, and each family keeps it only
            for itself.
    """

    comparisons: Mapping[Key, Paired]
    confirmatory: bool = False

    @property
    def tests(self) -> int:
        """The number of comparisons that have a case."""
        return sum(pair.n > 0 for pair in self.comparisons.values())

    @cached_property
    def corrected(self) -> dict[Key, float]:
        """The p of each comparison after Holm's correction; NaN where there is no case."""
        return dict(zip(self.comparisons, holm([pair.p for pair in self.comparisons.values()]), strict=True))

    @cached_property
    def at_best(self) -> dict[Key, float]:
        """The smallest corrected p that each comparison could reach: all differing cases of all point one way."""
        smallest = [pair.smallest_p if pair.n else np.nan for pair in self.comparisons.values()]
        return dict(zip(self.comparisons, holm(smallest), strict=True))

    def support(self) -> str:
        """What so many tests of so few cases could show at best, in words."""
        if not self.tests:
            return "No case to compare."
        most = max(pair.wins + pair.losses for pair in self.comparisons.values())
        best = min(1.0, self.tests * smallest_p(most))
        tests, cases = counted(self.tests, "test"), counted(most, "differing case")
        return f"{tests} with up to {cases}: the corrected p is {best:.3g} at best" + (
            "." if best < LEVEL else ", so no difference can be shown, however large it is."
        )

    def verdict(self, key: Key) -> str:
        """What a comparison shows, in words, and no more than its cases and the number of tests support."""
        pair = self.comparisons[key]
        if pair.n == 0:
            return "no case to compare"
        if pair.wins + pair.losses == 0:
            return "no case differs"
        if self.at_best[key] >= LEVEL:
            return "too few cases"
        if self.corrected[key] >= LEVEL:
            return "no difference shown"
        direction = "better" if pair.rank_biserial > 0 else "worse"  # the test is about ranks
        if not pair.mean_and_ranks_agree:
            return f"{direction} by ranks, but not in the mean"
        return f"significantly {direction}" if self.claims(key) else f"{direction}, exploratory"

    def claims(self, key: Key) -> bool:
        """Whether the verdict claims a difference, which only a confirmatory family may."""
        shown = self.at_best[key] < LEVEL and self.corrected[key] < LEVEL
        return self.confirmatory and shown and self.comparisons[key].mean_and_ranks_agree


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p of several tests by Holm's step-down method; NaN is no test.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979), by statsmodels. It holds also for
    dependent tests, as comparisons with one baseline are.
    """
    corrected = np.array(p, float)
    tested = ~np.isnan(corrected)
    gc.freeze()  # statsmodels collects garbage in every call, which takes 0.3 s where torch is loaded
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], method="holm")[1]
    gc.unfreeze()
    return corrected.tolist()


@dataclass(frozen=True)
class Comparisons:
    """All comparisons by one metric, in the families that are corrected together.

    Args:
        with_baseline: every method but the first with the first, in every group, by the mean over classes; the keys are
            method and title of the group. Of Dice this family is the confirmatory one, unless the results are
            interim.
        by_structure: the same by single classes; the keys are method, title of the group and class. Empty of one class.
        all_pairs: every method with every earlier one, by the mean over classes; the keys are the earlier method, the
            later one and the title of the group. Empty of fewer than three methods.
        ranks: of each group, by its title, see :meth:`CaseScores.ranks`.
    """

    with_baseline: Family[tuple[str, str]]
    by_structure: Family[tuple[str, str, str]]
    all_pairs: Family[tuple[str, str, str]]
    ranks: Mapping[str, np.ndarray]


@lru_cache(maxsize=len(METRICS))
def compare_all(results: Results, metric: str) -> Comparisons:
    """Compare the methods by a metric: with the first one, structure by structure, and in all pairs."""
    baseline, *others = results.methods
    claims = metric == PRIMARY and not results.interim
    scores = {group.title: CaseScores.of(results, group, metric) for group in results.groups}
    classes = results.classes if len(results.classes) > 1 else ()
    pairs = list(combinations(results.methods, 2)) if len(others) > 1 else []
    return Comparisons(
        Family({(m, g): of.compare(m, baseline) for m in others for g, of in scores.items()}, claims),
        Family({(m, g, c): of.compare(m, baseline, c) for c in classes for m in others for g, of in scores.items()}),
        Family({(a, b, g): of.compare(b, a) for a, b in pairs for g, of in scores.items()}),
        {title: of.ranks() for title, of in scores.items()},
    )


def counted(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}{'s' * (number != 1)}"
