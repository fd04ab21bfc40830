"""The few-shot protocol: one fixed test set, one full training set, and seeded draws of a few training cases."""

import math
import random
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb
from typing import Any

MOST_SUBSETS = 20_000  # that are looked at one by one; of more, as many random ones
RESTARTS = 1_000  # of the search for further subsets that hold every class
TEST_FRACTION = 0.2  # the paper's 6 of 30
PROTOCOL = "fewshot.json"  # what each fold is, beside nnU-Net's splits


@dataclass(frozen=True)
class Fold:
    """One fold of ``splits_final.json``: ``train`` and ``val`` are nnU-Net's, the rest says what it is."""

    fold: int
    draw: int | None  # counted from 1; None: the full training set
    train: tuple[str, ...]
    val: tuple[str, ...]
    missing: tuple[str, ...]  # classes that no training case holds

    def split(self) -> dict[str, list[str]]:
        """As nnU-Net reads it."""
        return {"train": list(self.train), "val": list(self.val)}

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Fold":
        train, val, missing = (tuple(values[key]) for key in ("train", "val", "missing"))
        return cls(values["fold"], values["draw"], train, val, missing)


def few_shot_folds(
    classes: Mapping[str, Collection[str]],
    test: Collection[str],
    sizes: Sequence[int],
    draws: int,
    seed: int,
) -> list[Fold]:
    """Fold 0 trains on every case that is not for testing; then follow ``draws`` folds for each of ``sizes``.

    No draw of a size repeats another. Draws that hold every class of the training set come before those that hold
    fewer, as far as they are found: of up to ``MOST_SUBSETS`` subsets of a size each is looked at, of more as many
    random ones, and, if these do not do, what ``RESTARTS`` greedy searches find. A change of ``draws`` (up to
    ``MOST_SUBSETS``) or of the other sizes leaves the draws of a size as they are.

    Source: Wang et al., MICCAI 2024, section 2.3: 24 training and 6 test cases, five draws of 6 and of 3.

    Args:
        classes: names of the classes in each case.
        test: the cases that all folds validate on.

    Raises:
        ValueError: a size that is not smaller than the training set, or has fewer different draws than asked for.
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
        if comb(len(training), size) < draws:
            raise ValueError(
                f"--draws {draws}: there are only {comb(len(training), size)} different draws of {size} from "
                f"{len(training)} training cases; ask for no more"
            )
        subsets = ordered_subsets(classes, training, size, random.Random(f"{seed} {size}"), at_least=draws)
        folds += [fold(len(folds) + i, i + 1, train) for i, train in enumerate(subsets[:draws])]
    return folds


def choose_test(classes: Mapping[str, Collection[str]], count: int, seed: int) -> tuple[str, ...]:
    """``count`` random cases for testing that hold, and leave for training, as many of the classes as possible.

    Of more than ``MOST_SUBSETS`` possible sets the best of as many random ones.
    """
    cases = sorted(classes)
    every_class = set().union(*classes.values())

    def missing(subset: Iterable[str]) -> int:
        rest = set(cases).difference(subset)
        return sum(len(every_class - set().union(*(classes[case] for case in part))) for part in (subset, rest))

    subsets = list(random_subsets(cases, count, random.Random(f"{seed} test"), at_least=1))
    return tuple(sorted(min(subsets, key=missing)))


def number_of_test_cases(test: float, cases: int) -> int:
    """Of ``cases``, the number that a count (1 or more) or a fraction (below 1) asks for.

    Raises:
        ValueError: it leaves no case for training or for testing, or is no whole number.
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
    """Different random subsets of ``cases``, those that hold most classes first.

    A larger ``at_least`` only adds to what a smaller one finds, behind those that hold as many classes.
    """

    def number_held(subset: Iterable[str]) -> int:
        return len(set().union(*(classes[case] for case in subset)))

    held = {subset: number_held(subset) for subset in random_subsets(cases, size, generator, at_least)}
    every = number_held(cases)
    if comb(len(cases), size) > MOST_SUBSETS:  # a rare class may be in none of the random ones
        complete = sum(number == every for number in held.values())
        for _ in range(RESTARTS):
            if complete >= at_least:
                break
            subset = covering_subset(classes, cases, size, generator)
            if subset not in held:
                held[subset] = number_held(subset)
                complete += held[subset] == every
    return sorted(held, key=lambda subset: -held[subset])  # stable: random among equals


def random_subsets(
    cases: Sequence[str], size: int, generator: random.Random, at_least: int
) -> "Collection[tuple[str, ...]]":
    """All subsets of a size in random order, or many random ones where there are too many."""
    if comb(len(cases), size) <= max(MOST_SUBSETS, at_least):
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
    """A random subset that takes, while a class is missing, a case with the missing class that fewest cases hold.

    Half of the time it is the case with most missing classes, else any: every subset with all classes can be found.
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
    """What each fold is, a line each, in Markdown."""
    rows: list[tuple[str, ...]] = [("fold", "training cases", "draw", "trains on", "classes missing in training")]
    for fold in folds:
        draw = "all" if fold.draw is None else str(fold.draw)
        named = ", ".join(fold.train) if fold.draw is not None else "every case that is not for testing"
        rows.append((str(fold.fold), str(len(fold.train)), draw, named, ", ".join(fold.missing) or "none"))
    rows.insert(1, ("---",) * len(rows[0]))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", f"All folds are tested on: {', '.join(folds[0].val)}"])


def script(
    dataset: str, folds: Sequence[Fold], trainers: Sequence[str], configuration: str, plans: str, device: str | None
) -> str:
    """A bash script of all trainings: one of them as a Slurm array task, else one after the other.

    Run again, it goes on: finished trainings are left alone, others continue from their last checkpoint.
    """
    options = ([] if plans == "nnUNetPlans" else ["-p", plans]) + ([] if device is None else ["-device", device])
    lines = [
        shlex.join(["nnUNetv2_train", dataset, configuration, str(fold.fold), "-tr", trainer, *options, "--c"])
        for fold in folds
        for trainer in trainers
    ]
    finished = [
        shlex.quote(f"{dataset}/{trainer}__{plans}__{configuration}/fold_{fold.fold}/validation/summary.json")
        for fold in folds
        for trainer in trainers
    ]
    compare = shlex.join(["nnUNetv2_tpmamba", "compare", "-d", dataset, "-tr", *trainers, "-c", configuration])
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            f"# {len(lines)} trainings; on Slurm: sbatch --array=0-{len(lines) - 1} THIS_FILE",
            "# Run it again after a stop: finished ones are skipped, others continued.",
            "set -uo pipefail",
            'export nnUNet_extTrainer="${nnUNet_extTrainer:-$(nnUNetv2_tpmamba path)}"',
            "trainings=(",
            *(f"    {shlex.quote(line)}" for line in lines),
            ")",
            "finished=(",
            *(f"    {file}" for file in finished),
            ")",
            'chosen=("${!trainings[@]}")',
            'if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then chosen=("$SLURM_ARRAY_TASK_ID"); fi',
            "failed=0",
            'for i in "${chosen[@]}"; do',
            '    if [ -f "$nnUNet_results/${finished[$i]}" ]; then continue; fi',
            "    ${trainings[$i]} || failed=1",
            "done",
            f"# then: {compare}{'' if plans == 'nnUNetPlans' else f' -p {plans}'}",
            "exit $failed",
            "",
        ]
    )
