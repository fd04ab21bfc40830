"""The tables that compare methods case by case, and the words around them."""

import math

from .document import Block, Heading, Paragraph, Table
from .families import PRIMARY, Family, against_baseline
from .metrics import METRICS
from .results import Results
from .statistics import MOST_EXACT, MOST_PERMUTED, Paired

UNDEFINED = "\N{EN DASH}"
MEASURES = ["n", "mean", "baseline's mean", "mean difference", "95 % interval", "median difference", "win/tie/loss"]
MEASURES += ["rank-biserial", "p", "corrected p", "what n supports"]


def case_by_case(results: Results) -> list[Block]:
    """What the report says about every method but the first against the first."""
    blocks: list[Block] = [Heading("Case by case"), Paragraph(claims(results))]
    for metric in METRICS.values():
        family = against_baseline(results, metric.name)
        table = family_table(family, metric.form)
        blocks += [Heading(f"{metric.label}, mean over classes", 3), Paragraph(family.support()), table]
    return [*blocks, Paragraph(small_print(results))]


def claims(results: Results) -> str:
    """What the tables may claim, in words; no word here is one that a claim uses."""
    return (
        f"Each test case with one method against the same case with {results.methods[0]}, the baseline. Only the "
        f"table of {PRIMARY} claims differences: its p are corrected together, for all methods and groups, so that "
        "of reports on methods that do not differ at most 5 % claim any. The other tables are exploratory: the p of "
        "each are corrected together, but not for the number of tables."
    )


def small_print(results: Results) -> str:
    """How the numbers of the tables are computed, and what they leave open, in words."""
    return (
        "Several draws tested on one case are averaged first, because they are not independent. Here the mean over "
        "classes is taken in each case, and the means and their difference over cases; in the tables above, the mean "
        "over classes is taken last. The two ways differ where some cases lack a class. 95 % interval: Student's t, of "
        "the mean difference. It holds the true mean as often as it says where differences are normal; where most are "
        "near zero and few are large, it does so in 90 of 100 comparisons of 6 cases, 93 of 20 and 94 of 52. A win is "
        "a case in which the method is better than the baseline. Rank-biserial: from +1, better in every differing "
        "case, to -1, worse in every one. p: two-sided Wilcoxon signed-rank test of the cases that differ, which takes "
        "gains and losses of the same size for equally likely where methods do not differ; exact up to "
        f"{MOST_EXACT} such cases, or {MOST_PERMUTED} where some differences are equal, a normal approximation above. "
        "Corrected p: Holm's method over all p of the table. All this says what other test cases would show, not what "
        f"a second training of the same method would. {UNDEFINED}: not defined."
    )


def family_table(family: Family[tuple[str, str]], form: str) -> Table:
    """A row for each comparison.

    Args:
        form: of the metric, as :func:`format` takes it.
    """
    rows = []
    for (method, group), pair in family.comparisons.items():
        rows.append([method, group, *measures(pair, form), p_value(family.corrected[method, group])])
        rows[-1].append(family.verdict((method, group)))
    return Table(["method", "on", *MEASURES], rows)


def measures(pair: Paired, form: str) -> list[str]:
    """The cells of a comparison, without those that depend on other comparisons."""
    low, high = (defined(value, f"+{form}") for value in pair.interval)
    return [
        str(pair.n),
        *(defined(mean, form) for mean in pair.means),
        defined(pair.mean, f"+{form}"),
        UNDEFINED if UNDEFINED in (low, high) else f"{low} to {high}",
        defined(pair.median, f"+{form}"),
        f"{pair.wins}/{pair.ties}/{pair.losses}",
        defined(pair.rank_biserial if pair.n else math.nan, "+.2f"),
        p_value(pair.p),
    ]


def p_value(p: float) -> str:
    """A p in three digits."""
    return defined(p, ".3g")


def defined(value: float, form: str) -> str:
    """A formatted number, or a dash for NaN."""
    return UNDEFINED if math.isnan(value) else format(value, form)
