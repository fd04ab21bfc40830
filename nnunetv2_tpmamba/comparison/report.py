"""The report of a comparison: the content of its tables, and the files it is written to."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import costs, environments, failures, paired_tables, spread
from .document import Block, Heading, Notes, Paragraph, Picture, Table, to_html, to_markdown
from .metrics import METRICS, Metric
from .records import write_records
from .results import MEAN, Group, Mean, Results
from .runs import Cost
from .surfaces import implementation
from .verdict import verdict

PICTURES = ("training_size.png", "convergence.png", "paired.png", "ranks.png", "overlays.png")  # all there can be
FIRST = ("ranks.png", "training_size.png", "paired.png")  # the first of these that there is stands above the tables


def write_report(
    results: Results,
    pictures: Mapping[str, tuple[str, bytes]],
    command: str,
    folder: Path,
    further: Sequence[Block] = (),
) -> None:
    """Write ``report.html``, ``report.md`` with its pictures, ``per_case.csv`` and ``summary.json``.

    A picture that an earlier report left in ``folder`` is removed if this report has none of its name.

    Args:
        pictures: caption and PNG by file name, which is one of ``PICTURES``.
        command: the command that made the report.
        further: what the report says besides.
    """
    blocks = report(results, [Picture(name, *picture) for name, picture in pictures.items()], command, further)
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(PICTURES) - set(pictures):
        (folder / name).unlink(missing_ok=True)
    for name, (_, data) in pictures.items():
        (folder / name).write_bytes(data)
    (folder / "report.md").write_text(to_markdown(blocks), encoding="utf-8")
    (folder / "report.html").write_text(to_html(results.title, blocks), encoding="utf-8")
    write_records(results, folder)


def report(results: Results, pictures: Sequence[Picture], command: str, further: Sequence[Block] = ()) -> list[Block]:
    """The whole report as blocks: the verdict, a figure, the tables, the other pictures, the small print."""
    blocks: list[Block] = [Heading(results.title, 1), Paragraph(verdict(results))]
    if results.notes:
        blocks.append(Notes(results.notes))
    first = [picture for name in FIRST for picture in pictures if picture.name == name][:1]
    blocks += first
    for metric in METRICS.values():
        blocks.append(Heading(metric.label + ("" if metric.higher_is_better else ", lower is better")))
        for group in results.groups:
            blocks += [Heading(group_heading(results, group), 3), score_table(results, group, metric)]
    blocks += failures.failure_blocks(results)
    small_print = [(metric.name, explanation(results, metric)) for metric in METRICS.values()]
    small_print.append(("Failures", failures.EXPLANATION))
    if len(results.methods) > 1:
        blocks += paired_tables.case_by_case(results)
        small_print.append(("Case by case", paired_tables.EXPLANATION))
    blocks += spread.spread_blocks(results)
    small_print.append(("Mean and spread", spread.EXPLANATION))
    blocks += further
    if any(run.cost != Cost() for run in results.runs.values()):
        blocks += [Heading("Cost"), costs.cost_table(results)]
        small_print.append(("Cost", costs.EXPLANATION))
    if any(run.environment for run in results.runs.values()):
        blocks += [Heading("Environment"), environments.environment_table(results)]
        small_print.append(("Environment", environments.EXPLANATION))
    if others := [picture for picture in pictures if picture not in first]:
        blocks += [Heading("Pictures"), *others]
    blocks.append(Heading("Small print"))
    blocks += [Paragraph(f"{title}: {text}") for title, text in small_print]
    return [*blocks, Heading("How this was made"), Paragraph(command)]


def group_heading(results: Results, group: Group) -> str:
    """The title of a group, its folds if it has any, and the number of cases each was tested on."""
    counts = [len(results.scores[results.methods[0], fold, 1]) for fold in group.folds]
    cases = f"{one_or_range(counts)} test case{'s' * (counts != [1])}{' each' * (len(counts) > 1)}"
    return f"{group.named} ({cases})"


def score_table(results: Results, group: Group, metric: Metric) -> Table:
    """A row per method and a column per class, the mean first; the last row counts cases."""
    names = (MEAN, *results.classes)
    rows = []
    for method in results.methods:
        means, undefined = results.of_group(method, group, metric.name), results.undefined(method, group, metric.name)
        rows.append([method, *(number(means[name], undefined[name], metric.form) for name in names)])
    counts = (one_or_range(results.cases_with(group, name)) for name in names)
    return Table(["", *names], [*rows, ["cases", *counts]])


def one_or_range(values: Sequence[int]) -> str:
    """The smallest and the largest of some numbers, or the number if all are equal."""
    return " to ".join(map(str, dict.fromkeys((min(values), max(values)))))


def explanation(results: Results, metric: Metric) -> str:
    """What the tables of a metric show, in words."""
    infinite = (
        "The distance to a structure that is in only one of truth and prediction is infinite. It enters no mean: "
        '"2.00, without 1 of 3" is the mean of two cases (of several folds, two of the three pairs of fold and case), '
        "and a method that misses a structure has no worse mean for it. Read it together with the structures missed. "
    )
    match metric.name:
        case "Dice":
            return (
                "Per class the mean over cases, as nnU-Net's summary.json; then the mean over classes. Where there are "
                "several folds: mean ± standard deviation over the folds. A class that is in neither truth nor "
                "prediction of a case does not count there; the last row says in how many test cases of a fold each "
                "class counts. A class in only one of the two has a Dice of 0."
            )
        case "NSD":
            tolerances = sorted({f"{value:g}" for value in results.tolerance.values()})
            each = (f"{value:g} mm ({name})" for name, value in results.tolerance.items())
            within = f"{tolerances[0]} mm" if len(tolerances) == 1 else ", ".join(each)
            return (
                f"Normalised surface Dice: the part of both surfaces that lies within {within} of the other, computed "
                f"by {implementation()}. A class in only one of truth and prediction has 0. Means as above."
            )
        case "HD95":
            return (
                "95th percentile of the Hausdorff distance: 95 % of the truth's surface lie within so many mm of the "
                f"prediction's, and 95 % of the prediction's within so many of the truth's; computed by "
                f"{implementation()}. Lower is better. {infinite}Means as above."
            )
        case _:
            return (
                "Average symmetric surface distance: the mean distance in mm from every point of both surfaces to the "
                f"other surface, computed by {implementation()}. Lower is better. Infinite distances as for HD95."
            )


def number(mean: Mean, undefined: tuple[int, int], form: str) -> str:
    """A mean with its spread, if there is one, and with how many of how many values it leaves out as infinite."""
    infinite, of = undefined
    if math.isnan(mean.mean):
        return f"none of {of}" if infinite else "absent"
    spread = f" ± {mean.spread:{form}}" if mean.n > 1 else ""
    return f"{mean.mean:{form}}{spread}" + (f", without {infinite} of {of}" if infinite else "")
