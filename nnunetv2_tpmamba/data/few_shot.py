"""The few-shot protocol: one fixed test set, one full training set, and seeded draws of a few training cases."""

import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from tabulate import tabulate

MOST_SUBSETS = 20_000  # up to here every subset is looked at; of more subsets, this many random ones
RESTARTS = 1_000  # how often the greedy search looks for one more subset that holds every class
TEST_FRACTION = 0.2  # the paper's 6 of 30
PROTOCOL = "fewshot.json"  # the file that says what each fold is, beside nnU-Net's splits


@dataclass(frozen=True)
class Fold:
    """One fold of ``splits_final.json``, and what it is in the protocol.

    Args:
        fold: its number, counted from 0.
        draw: the number of its draw, counted from 1; None for the full training set.
        train: cases to train on.
        val: cases to validate on, which are the test cases.
        missing: classes that no training case holds.
    """

    fold: int
    draw: int | None
    train: tuple[str, ...]
    val: tuple[str, ...]
    missing: tuple[str, ...]

    def split(self) -> dict[str, list[str]]:
        """Return what nnU-Net reads of the fold."""
        return {"train": list(self.train), "val": list(self.val)}

    def as_json(self) -> dict[str, Any]:
        """Return the fold as the protocol holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Fold":
        """Read what :meth:`as_json` returned."""
        train, val, missing = (tuple(values[key]) for key in ("train", "val", "missing"))
        return cls(values["fold"], values["draw"], train, val, missing)


def few_shot_folds(
    classes: Mapping[str, Collection[str]],
    test: Collection[str],
    sizes: Sequence[int],
    draws: int,
    seed: int,
) -> list[Fold]:
    """Make fold 0, which trains on every case that is not for testing, and ``draws`` folds for each of ``sizes``.

    No draw of a size repeats another. Draws that hold every class of the training set come before those that hold
    fewer, as far as such draws are found. Every subset of a size is looked at if there are at most ``MOST_SUBSETS``;
    otherwise as many random ones are, followed by ``RESTARTS`` greedy searches if too few of them hold every class. The
    draws of a size stay the same when ``draws`` (up to ``MOST_SUBSETS``) or the other sizes change.

    Source: Wang et al., MICCAI 2024, section 2.3: 24 training and 6 test cases, five draws of 6 and of 3.

    Args:
        classes: names of the classes in each case.
        test: the cases that all folds validate on.
        sizes: numbers of training cases.
        draws: how many folds there are of each size.
        seed: of the random draws.

    Raises:
        ValueError: a size is not smaller than the training set, or has fewer different draws than asked for.
    """
    every_class = set().union(*classes.values())
    training = sorted(set(classes) - set(test))
    val = tuple(sorted(test))

    def fold(index: int, draw: int | None, train: Sequence[str]) -> Fold:
        held = set().union(*(classes[case] for case in train))
        return Fold(index, draw, tuple(sorted(train)), val, tuple(sorted(every_class - held)))

    folds = [fold(0, None, training)]
    for size in sizes:
        if not 0 < size < len(training):
            raise ValueError(
                f"-n {size}: there are {len(training)} training cases beside the {len(val)} for testing, and fold 0 "
                f"trains on all of them; give numbers from 1 to {len(training) - 1}"
                if len(training) > 1
                else f"-n {size}: one training case is left beside the {len(val)} for testing; leave -n out"
            )
        if math.comb(len(training), size) < draws:
            raise ValueError(
                f"--draws {draws}: there are only {math.comb(len(training), size)} different draws of {size} from "
                f"{len(training)} training cases; ask for no more"
            )
        subsets = ordered_subsets(classes, training, size, random.Random(f"{seed} {size}"), at_least=draws)
        folds += [fold(len(folds) + i, i + 1, train) for i, train in enumerate(subsets[:draws])]
    return folds


def choose_test(classes: Mapping[str, Collection[str]], count: int, seed: int) -> tuple[str, ...]:
    """Choose ``count`` random test cases such that they and the other cases each hold as many classes as possible.

    They are the best of all subsets, or of ``MOST_SUBSETS`` random ones where there are more.
    """
    cases = sorted(classes)
    every_class = set().union(*classes.values())

    def missing(subset: Iterable[str]) -> int:
        rest = set(cases).difference(subset)
        return sum(len(every_class - set().union(*(classes[case] for case in part))) for part in (subset, rest))

    subsets = list(random_subsets(cases, count, random.Random(f"{seed} test"), at_least=1))
    return tuple(sorted(min(subsets, key=missing)))


def number_of_test_cases(test: float, cases: int) -> int:
    """Return how many of ``cases`` a count (1 or more) or a fraction (below 1) asks for.

    Raises:
        ValueError: no case is left for training or for testing, or ``test`` is neither a fraction nor a whole number.
    """
    if cases < 2:
        raise ValueError(f"there are {cases} cases with labels; two are needed, one to train on and one to test on")
    if not math.isfinite(test) or (test >= 1 and test != int(test)):
        raise ValueError(f"--test {test:g}: give a whole number of cases, a fraction below 1, or names of cases")
    count = max(1, round(test * cases)) if 0 < test < 1 else int(test)
    if not 0 < count < cases:
        raise ValueError(f"--test {test:g} leaves no training case of {cases}; give from 1 to {cases - 1} cases")
    return count


def ordered_subsets(
    classes: Mapping[str, Collection[str]], cases: Sequence[str], size: int, generator: random.Random, at_least: int
) -> list[tuple[str, ...]]:
    """Return different random subsets of ``cases``; the more classes a subset holds, the earlier it comes.

    A larger ``at_least`` finds the subsets of a smaller one in the same order, and then further ones behind those that
    hold as many classes.
    """

    def number_held(subset: Iterable[str]) -> int:
        return len(set().union(*(classes[case] for case in subset)))

    held = {subset: number_held(subset) for subset in random_subsets(cases, size, generator, at_least)}
    every = number_held(cases)
    if math.comb(len(cases), size) > MOST_SUBSETS:  # then perhaps none of the random subsets holds a rare class
        complete = sum(number == every for number in held.values())
        for _ in range(RESTARTS):
            if complete >= at_least:
                break
            subset = covering_subset(classes, cases, size, generator)
            if subset not in held:
                held[subset] = number_held(subset)
                complete += held[subset] == every
    return sorted(held, key=lambda subset: -held[subset])  # a stable sort: equals stay in random order


def random_subsets(
    cases: Sequence[str], size: int, generator: random.Random, at_least: int
) -> Collection[tuple[str, ...]]:
    """Return all subsets of a size in random order, or ``MOST_SUBSETS`` random ones where there are more."""
    if math.comb(len(cases), size) <= max(MOST_SUBSETS, at_least):
        subsets = list(combinations(cases, size))
        generator.shuffle(subsets)
        return subsets
    chosen: dict[tuple[str, ...], None] = {}
    while len(chosen) < max(MOST_SUBSETS, at_least):
        chosen[tuple(sorted(generator.sample(cases, size)))] = None
    return chosen.keys()


def covering_subset(
    classes: Mapping[str, Collection[str]], cases: Sequence[str], size: int, generator: random.Random
) -> tuple[str, ...]:
    """Draw a random subset that holds as many classes as a greedy search finds.

    While a class is missing, the search takes a case that holds the rarest of the missing classes. Half of the time it
    takes the one that holds most missing classes, otherwise any, so that every subset with all classes can be found.
    """
    holders: dict[str, list[str]] = {}
    for case in cases:
        for name in classes[case]:
            holders.setdefault(name, []).append(case)
    missing = set(holders)
    chosen: list[str] = []
    while missing and len(chosen) < size:
        rarest = min(missing, key=lambda name: (len(holders[name]), name))
        candidates = holders[rarest]
        if generator.random() < 0.5:
            gains = [len(missing.intersection(classes[case])) for case in candidates]
            most = max(gains)
            candidates = [case for case, gain in zip(candidates, gains, strict=True) if gain == most]
        chosen.append(generator.choice(candidates))
        missing.difference_update(classes[chosen[-1]])
    rest = sorted(set(cases).difference(chosen))
    return tuple(sorted([*chosen, *generator.sample(rest, size - len(chosen))]))


def table(folds: Sequence[Fold]) -> str:
    """Return a Markdown table with a line for each fold, and a sentence that names the test cases."""
    headers = ("fold", "training cases", "draw", "trains on", "classes missing in training")
    rows = [
        (
            fold.fold,
            len(fold.train),
            "all" if fold.draw is None else fold.draw,
            "every case that is not for testing" if fold.draw is None else ", ".join(fold.train),
            ", ".join(fold.missing) or "none",
        )
        for fold in folds
    ]
    text = tabulate(rows, headers, tablefmt="github", numalign="left", disable_numparse=True)
    return f"{text}\n\nAll folds are tested on: {', '.join(folds[0].val)}"
