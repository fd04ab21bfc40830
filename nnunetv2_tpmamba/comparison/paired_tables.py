"""The tables that compare methods case by case, and the words around them."""

import math

from .document import DASH, Block, Details, Heading, Paragraph, Table, defined
from .families import PRIMARY, Comparisons, Family, Key, compare_all
from .metrics import METRICS, Metric
from .results import Group, Results
from .statistics import MOST_EXACT, MOST_PERMUTED, Paired

MEASURES = ["verdict", "n", "mean (baseline)", "mean difference", "median", "win/tie/loss", "rank-biserial", "p"]
MEASURES += ["corrected p"]


def case_by_case(results: Results) -> list[Block]:
    """What the report says about every method but the first against the first, and about all pairs."""
    blocks: list[Block] = [Heading("Case by case"), Paragraph(claims(results))]
    for metric in METRICS.values():
        comparisons = compare_all(results, metric.name)
        blocks.append(Heading(f"{metric.label}, mean over classes", 3))
        blocks += [Paragraph(comparisons.with_baseline.support()), baseline_table(comparisons.with_baseline, metric)]
        if comparisons.by_structure.comparisons:
            blocks.append(structure_details(results, comparisons.by_structure, metric))
        if comparisons.all_pairs.comparisons:
            blocks.append(pairs_details(results, comparisons, metric))
    return blocks


def claims(results: Results) -> str:
    """What the tables may claim, in words; no word here is one that a claim uses."""
    confirmatory = (
        "The study is not finished, so no table claims a difference: the comparisons that are still to come are not "
        "corrected for, and who looks at a growing study several times finds a false difference more often. All "
    )
    if not results.interim:
        confirmatory = (
            f"Only the table of {PRIMARY} claims differences: its p are corrected together, for all methods and "
            "groups, so that of reports on methods that do not differ at most 5 % claim any. The other "
        )
    return (
        f"Each test case with one method against the same case with {results.methods[0]}, the baseline. {confirmatory}"
        "tables are exploratory: the p of each metric are corrected together (of single structures, of all pairs), but "
        "not for the number of tables."
    )


EXPLANATION = (
    "Several draws tested on one case are averaged first, because they are not independent. Here the mean over "
    "classes is taken in each case, and the means and their difference over cases; in the tables of scores, "
    "the mean over classes is taken last. The two ways differ where some cases lack a class. A distance that "
    "is infinite for one of two methods, because it misses or invents a structure, is left out for both: the "
    "distances compare what both have found. In brackets after the mean difference: its 95 % interval, "
    "Student's t. It holds the true mean as often as it says where differences are normal; where most are near "
    "zero and few are large, it does so in 90 of 100 comparisons of 6 cases, 93 of 20 and 94 of 52. Each "
    "interval is of one comparison alone and not corrected. Median: of the "
    "differences. A win is a case in which the method is better than the baseline. Rank-biserial: from +1, "
    "better in every differing case, to -1, worse in every one. p: two-sided Wilcoxon signed-rank test of the "
    "cases that differ, which takes gains and losses of the same size for equally likely where methods do not "
    f"differ; exact up to {MOST_EXACT} such cases, or {MOST_PERMUTED} if some differences are equal, a normal "
    "approximation above. Corrected p: Holm's method over all p of the family. Verdict: by the corrected p. "
    "That no difference is shown does not prove that there is none; where ranks and mean point to different "
    "methods, look at the single cases. All this says what other test cases would show, not what a second "
    f"training of the same method would. {DASH}: not defined."
)
"""How the numbers of the tables are computed, and what they leave open."""


def baseline_table(family: Family[tuple[str, str]], metric: Metric) -> Table:
    """A row for each method and group."""
    keys = family.comparisons
    return Table(["method", "on", *MEASURES], [[*key, *measures(family, key, metric.form)] for key in keys], names=3)


def structure_details(results: Results, family: Family[tuple[str, str, str]], metric: Metric) -> Details:
    """A table for each group with a row for each class and method, ordered by class."""
    blocks: list[Block] = [Paragraph(family.support())]
    for group in results.groups:
        keys = [(method, group.title, name) for name in results.classes for method in results.methods[1:]]
        rows = [[key[2], key[0], *measures(family, key, metric.form)] for key in keys]
        blocks += [*title_of(results, group), Table(["class", "method", *MEASURES], rows, names=3)]
    return Details(f"{metric.label} of single structures", blocks)


def pairs_details(results: Results, comparisons: Comparisons, metric: Metric) -> Details:
    """A matrix of p for each group, and the mean ranks of the methods."""
    words = (
        "Right of the diagonal the corrected p of each pair, left of it p as it is. + and -: the method of the row is "
        "better or worse than that of the column, by ranks of the differences. Mean rank: every structure of every "
        "case ranks the methods, the best is 1 and equal ones share a rank; a rightly absent structure is first, the "
        "infinite distance to a missed or invented one last. The mean is over structures, draws and cases. "
    )
    blocks: list[Block] = [Paragraph(words + comparisons.all_pairs.support())]
    for group in results.groups:
        blocks += [*title_of(results, group), pairs_table(results, group, comparisons)]
    return Details(f"{metric.label} of all pairs of methods", blocks)


def pairs_table(results: Results, group: Group, comparisons: Comparisons) -> Table:
    """The matrix of a group; methods have the numbers of their rows as columns."""
    family, ranks = comparisons.all_pairs, comparisons.ranks[group.title]
    rows = []
    for i, row in enumerate(results.methods):
        cells = []
        for j, column in enumerate(results.methods):
            if i == j:
                cells.append("")
                continue
            key = (*((row, column) if i < j else (column, row)), group.title)
            p = family.corrected[key] if i < j else family.comparisons[key].p
            gain = family.comparisons[key].rank_biserial * (-1 if i < j else 1)  # a comparison is of the later method
            cells.append(p_value(p) + (" +" if gain > 0 else " -" if gain < 0 else ""))
        mean_rank = ranks[i].mean() if ranks.size else math.nan
        rows.append([f"{i + 1} {row}", defined(mean_rank, ".2f"), *cells])
    return Table(["method", "mean rank", *(str(i + 1) for i in range(len(results.methods)))], rows)


def title_of(results: Results, group: Group) -> list[Block]:
    """The title of a group, if there are several."""
    return [Heading(group.title, 4)] if len(results.groups) > 1 else []


def measures(family: Family[Key], key: Key, form: str) -> list[str]:
    """The cells of a comparison, a cell for each of ``MEASURES``.

    Args:
        form: of the metric's values, as :func:`format` takes it.
    """
    pair: Paired = family.comparisons[key]
    means = (defined(mean, form) for mean in pair.means)
    low, high = (defined(value, f"+{form}") for value in pair.interval)
    return [
        family.verdict(key),
        str(pair.n),
        "{} ({})".format(*means) if pair.n else DASH,
        defined(pair.mean, f"+{form}") + (f" ({low} to {high})" if DASH not in (low, high) else ""),
        defined(pair.median, f"+{form}"),
        f"{pair.wins}/{pair.ties}/{pair.losses}",
        defined(pair.rank_biserial if pair.n else math.nan, "+.2f"),
        p_value(pair.p),
        p_value(family.corrected[key]),
    ]


def p_value(p: float) -> str:
    """A p in three digits, or two where it is small."""
    return defined(p, ".3g" if p >= 0.001 else ".1e")
