"""What a comparison shows, in three sentences: who is ahead, whether the cases carry it, and what limits it."""

import math
from collections.abc import Iterable

from .failures import failures_of_group
from .families import PRIMARY, compare_all, counted
from .metrics import METRICS
from .results import MEAN, Results
from .statistics import DIGITS, LEVEL

FEW = 3  # names in a sentence; more are counted


def verdict(results: Results) -> str:
    """Return the three sentences; those of one method say nothing about others."""
    return " ".join((ahead(results), carried(results), limits(results)))


def ahead(results: Results) -> str:
    """Which method has the best mean in each group, beside the first."""
    first = results.methods[0]
    parts = []
    for group in results.groups:
        means = {method: results.of_group(method, group, PRIMARY)[MEAN].mean for method in results.methods}
        known = {method: mean for method, mean in means.items() if not math.isnan(mean)}
        where = f"on {group.title}"
        if not known:
            parts.append(f"{where} nothing can be scored")
            continue
        highest = max(known.values())
        best = [method for method, mean in known.items() if round(highest - mean, DIGITS) == 0]
        has = "has" if len(best) == 1 else "share"
        text = f"{where} {listed(best)} {has} the highest mean {PRIMARY}, {shown(highest)}"
        if len(results.methods) == 1:
            text = f"{where} {first} has a mean {PRIMARY} of {shown(highest)}"
        elif first not in best:
            text += f" (the baseline {first}: {shown(means[first])})"
        parts.append(text)
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def carried(results: Results) -> str:
    """Which differences to the first method the cases carry after correction for the number of comparisons."""
    if len(results.methods) == 1:
        return "A single method is compared with nothing."
    family = compare_all(results, PRIMARY).with_baseline
    claimed = [key for key in family.comparisons if family.claims(key)]
    of = f"{counted(family.tests, 'comparison')} with the baseline"
    if claimed:
        named = listed(f"{method} {family.verdict((method, group))} on {group}" for method, group in claimed)
        return f"Of {of}, these show a difference (p corrected for their number below {LEVEL}): {named}."
    if not any(pair.wins + pair.losses for pair in family.comparisons.values()):
        return f"No case differs in {of}."
    if all(not best < LEVEL for best in family.at_best.values()):
        return f"So few differing cases cannot show any difference in {of}, however large it is."
    if results.interim:
        return f"The study is not finished, so nothing is claimed of {of} yet."
    return f"None of {of} shows a difference (p corrected for their number), which does not prove that there is none."


def limits(results: Results) -> str:
    """What a reader has to keep in mind: failures, how often each training was made, and the notes."""
    found = [failures_of_group(results, group) for group in results.groups]
    failing = [
        method
        for method in results.methods
        if any(of.missed or of.invented for of_group in found for of in of_group[method].values())
    ]
    missed = f"Structures were missed or invented by {listed(failing)}"
    parts = [missed if failing else "No structure was missed or invented", how_often(results)]
    if results.notes:
        parts.append(f"read the {counted(len(results.notes), 'note')} below before you believe the numbers")
    return "; ".join(parts) + "."


def how_often(results: Results) -> str:
    """How often each training was made, and what that leaves open."""
    if not any(fold for _, fold, _ in results.scores):
        return "folders of predictions do not say what a second training of each method would give"
    if (repeats := len(results.repeats)) > 1:
        return f"every training was made {repeats} times"
    return "every training was made once, so what a second one would give is not known"


def shown(mean: float) -> str:
    """A mean of the metric that the verdict is about."""
    return format(mean, METRICS[PRIMARY].form)


def listed(names: Iterable[str]) -> str:
    """A few names, and how many there are besides."""
    names = list(names)
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
