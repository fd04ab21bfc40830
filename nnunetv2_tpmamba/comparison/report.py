"""The report of a comparison: the content of its tables, and the files it is written to."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .document import Block, Heading, Notes, Paragraph, Picture, Table, to_html, to_markdown
from .results import MEAN, METRICS, Group, Mean, Results
from .runs import Cost
from .statistics import MOST_EXACT

PICTURES = ("training_size.png", "convergence.png", "paired.png", "overlays.png")  # all that a report can hold
UNDEFINED = "\N{EN DASH}"


def write_report(results: Results, pictures: Mapping[str, tuple[str, bytes]], command: str, folder: Path) -> None:
    """Write ``report.html``, ``report.md`` with its pictures, ``per_case.csv`` and ``summary.json``.

    A picture that an earlier report left in ``folder`` is removed if this report has none of its name.

    Args:
        pictures: caption and PNG by file name, which is one of ``PICTURES``.
        command: the command that made the report.
    """
    blocks = report(results, [Picture(name, *picture) for name, picture in pictures.items()], command)
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(PICTURES) - set(pictures):
        (folder / name).unlink(missing_ok=True)
    for name, (_, data) in pictures.items():
        (folder / name).write_bytes(data)
    (folder / "report.md").write_text(to_markdown(blocks), encoding="utf-8")
    (folder / "report.html").write_text(to_html(results.title, blocks), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(without_nan(summary(results)), indent=1))
    with (folder / "per_case.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(per_case(results))


def report(results: Results, pictures: Sequence[Picture], command: str) -> list[Block]:
    """The whole report as blocks of a document."""
    blocks: list[Block] = [Heading(results.title, 1)]
    if results.notes:
        blocks.append(Notes(results.notes))
    for metric in METRICS:
        blocks += [Heading(metric), Paragraph(explanation(results, metric))]
        for group in results.groups:
            blocks += [Heading(group_heading(results, group), 3), score_table(results, group, metric)]
    if len(results.methods) > 1:
        blocks += [Heading("Case by case"), Paragraph(paired_explanation(results)), paired_table(results)]
    if any(run.cost != Cost() for run in results.runs.values()):
        blocks += [Heading("Cost"), cost_table(results)]
    if pictures:
        blocks += [Heading("Pictures"), *pictures]
    return [*blocks, Heading("How this was made"), Paragraph(command)]


def group_heading(results: Results, group: Group) -> str:
    """The title of a group, its folds if it has any, and the number of cases each was tested on."""
    counts = [len(results.scores[results.methods[0], fold]) for fold in group.folds]
    cases = f"{one_or_range(counts)} test case{'s' * (counts != [1])}{' each' * (len(counts) > 1)}"
    folds = "" if group.folds == ("",) else folds_named(group.folds)
    return f"{group.title} ({cases})" if folds in ("", group.title) else f"{group.title} ({folds}; {cases})"


def score_table(results: Results, group: Group, metric: str) -> Table:
    """A row per method and a column per class, the mean first; the last row counts cases."""
    names = (MEAN, *results.classes)
    scores = {method: results.of_group(method, group, metric) for method in results.methods}
    rows = [[method, *(number(of[name]) for name in names)] for method, of in scores.items()]
    return Table(["", *names], [*rows, ["cases", *(one_or_range(cases_with(results, group, name)) for name in names)]])


def cases_with(results: Results, group: Group, name: str) -> list[int]:
    """For each method and fold, the number of cases in which a class counts; for the mean, of cases with any class."""
    classes = results.classes if name == MEAN else (name,)
    return [
        sum(any(not math.isnan(scores[key][0]) for key in classes) for scores in results.scores[method, fold].values())
        for method in results.methods
        for fold in group.folds
    ]


def one_or_range(values: Sequence[int]) -> str:
    """The smallest and the largest of some numbers, or the number if all are equal."""
    return " to ".join(map(str, dict.fromkeys((min(values), max(values)))))


def explanation(results: Results, metric: str) -> str:
    """What the tables of a metric show, in words."""
    means = (
        "Per class the mean over cases, as nnU-Net's summary.json; then the mean over classes. Where there are several "
        "folds: mean ± standard deviation over the folds. A class that is in neither truth nor prediction of a case "
        "does not count there; the last row says in how many test cases of a fold each class counts."
    )
    if metric == "Dice":
        return means
    tolerances = sorted({f"{value:g}" for value in results.tolerance.values()})
    if len(tolerances) == 1:
        within = f"{tolerances[0]} mm"
    else:
        within = ", ".join(f"{value:g} mm ({name})" for name, value in results.tolerance.items())
    return f"Normalised surface Dice: the part of both surfaces that lies within {within} of the other. Means as above."


def paired_explanation(results: Results) -> str:
    """What the table of paired comparisons shows, in words."""
    return (
        f"Each test case with one method against the same case with {results.methods[0]}, the baseline; several draws "
        "tested on one case are averaged first, because they are not independent. Here the mean over classes is taken "
        "in each case, and the means and their difference over cases; in the tables above, the mean over classes is "
        "taken last. The two ways differ where some cases lack a class. Interval: 95 % bootstrap interval of the mean "
        f"difference. p: two-sided Wilcoxon signed-rank test, exact up to {MOST_EXACT} differing cases, a normal "
        "approximation above that. Several methods or groups are several tests, and p is not corrected for their "
        "number. All this says what other test cases would show, not what a second training of the same method would. "
        f"{UNDEFINED}: not defined, or too few cases."
    )


def paired_table(results: Results) -> Table:
    """A row for each method but the first, each group and each metric."""
    header = ["method", "on", "metric", "n", "mean", "baseline's mean", "difference"]
    header += ["95 % interval", "win/tie/loss", "p", "what n supports"]
    rows = []
    for method in results.methods[1:]:
        for group in results.groups:
            for metric in METRICS:
                pair = results.paired(method, group, metric)
                means = [defined(mean, ".3f") for mean in pair.means]
                low, high = (defined(value, "+.3f") for value in pair.interval)
                interval = UNDEFINED if UNDEFINED in (low, high) else f"{low} to {high}"
                counts = f"{pair.wins}/{pair.ties}/{pair.losses}"
                numbers = [*means, defined(pair.mean, "+.3f"), interval, counts, defined(pair.p, ".3g")]
                rows.append([method, group.title, metric, str(pair.n), *numbers, pair.verdict()])
    return Table(header, rows)


def defined(value: float, form: str) -> str:
    """A formatted number, or a dash for NaN."""
    return UNDEFINED if math.isnan(value) else format(value, form)


def cost_table(results: Results) -> Table:
    """A row per method: what its trainings took."""
    header = ["", "folds", "epochs", "s per epoch", "hours in all", "parameters", "trained", "checkpoint"]
    header += ["peak memory"]
    rows = []
    for method in results.methods:
        costs = [run.cost for (name, _), run in results.runs.items() if name == method]

        def of(name: str, costs: Sequence[Cost] = costs) -> list[Any]:
            return [value for cost in costs if (value := getattr(cost, name)) is not None]

        epochs, seconds, hours = of("epochs"), of("epoch_seconds"), of("hours")
        rows.append(
            [
                method,
                str(len(costs)),
                ", ".join(map(str, sorted(set(epochs)))) or "unknown",
                " to ".join(dict.fromkeys(f"{s:.1f}" for s in (min(seconds), max(seconds)))) if seconds else "unknown",
                f"{sum(hours):.2f}" if len(hours) == len(costs) else "unknown",
                millions(of("parameters")),
                millions(of("trained_parameters")),
                f"{max(of('checkpoint_bytes')) / 1e6:.0f} MB" if of("checkpoint_bytes") else "unknown",
                f"{max(of('peak_memory_gb')):.1f} GB" if of("peak_memory_gb") else "not logged",
            ]
        )
    return Table(header, rows)


def millions(values: Sequence[int]) -> str:
    """The largest of some numbers, in millions."""
    return f"{max(values) / 1e6:.2f} M" if values else "unknown"


def number(mean: Mean) -> str:
    """A mean with its spread, if there is one."""
    if math.isnan(mean.mean):
        return "absent"
    return f"{mean.mean:.3f}" + (f" ± {mean.spread:.3f}" if mean.n > 1 else "")


def folds_named(folds: Sequence[str]) -> str:
    """Folds in words."""
    return ("fold " if len(folds) == 1 else "folds ") + ", ".join(folds)


def per_case(results: Results) -> list[list[Any]]:
    """A line per method, fold, case and class; an empty cell where a class is absent."""
    group_of = {fold: group.title for group in results.groups for fold in group.folds}
    rows: list[list[Any]] = [["method", "group", "fold", "case", "class", *METRICS]]
    for (method, fold), cases in results.scores.items():
        for case, scores in cases.items():
            for name, values in scores.items():
                cells = ["" if math.isnan(value) else repr(value) for value in values]
                rows.append([method, group_of[fold], fold, case, name, *cells])
    return rows


def summary(results: Results) -> dict[str, Any]:
    """All numbers of the report's tables, to be written as JSON."""
    return {
        "title": results.title,
        "notes": list(results.notes),
        "tolerance_mm": dict(results.tolerance),
        "groups": [
            {
                **asdict(group),
                "cases": len(results.of_cases(results.methods[0], group, METRICS[0])),
                "cases_with_class": {name: cases_with(results, group, name) for name in results.classes},
                "methods": {
                    method: {
                        metric: {
                            "mean": {name: asdict(m) for name, m in results.of_group(method, group, metric).items()},
                            "per_fold": {fold: results.of_fold(method, fold, metric) for fold in group.folds},
                        }
                        for metric in METRICS
                    }
                    for method in results.methods
                },
                "paired": {
                    method: {metric: asdict(results.paired(method, group, metric)) for metric in METRICS}
                    for method in results.methods[1:]
                },
            }
            for group in results.groups
        ],
        "cost": {
            method: {fold: asdict(run.cost) for (name, fold), run in results.runs.items() if name == method}
            for method in results.methods
        },
    }


def without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by null."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
