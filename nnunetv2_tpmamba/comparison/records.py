"""The numbers of a comparison for other programs: a table of all cases as CSV, and the report's tables as JSON."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .failures import failures_of_group
from .families import Family, Key, compare_all
from .metrics import METRICS
from .results import Group, Results, nanmean
from .spread import spread


def write_records(results: Results, folder: Path) -> None:
    """Write ``per_case.csv`` and ``summary.json``."""
    (folder / "summary.json").write_text(json.dumps(finite_only(summary(results)), indent=1))
    with (folder / "per_case.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(per_case(results))


def per_case(results: Results) -> list[list[Any]]:
    """A line per method, fold, case, class and metric; no value where a class is absent, "inf" for an infinite one."""
    draws = {fold: draw for group in results.groups for fold, draw in group.draws.items()}
    rows: list[list[Any]] = [["method", "fold", "draw", "repeat", "case", "class", "metric", "value"]]
    for (method, fold, repeat), cases in results.scores.items():
        for case, scores in cases.items():
            for name, values in scores.items():
                of = (method, fold, draws.get(fold, ""), repeat, case, name)
                rows += [[*of, quantity, "" if math.isnan(value) else value] for quantity, value in values.items()]
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
                "cases": len(results.of_cases(results.methods[0], group, "Dice")),
                "cases_with_class": {name: results.cases_with(group, name) for name in results.classes},
                "methods": {
                    method: {
                        metric: {
                            "mean": {name: asdict(m) for name, m in results.of_group(method, group, metric).items()},
                            "per_fold": {fold: results.of_fold(method, fold, metric) for fold in group.folds},
                            "infinite": {
                                n: count for n, (count, _) in results.undefined(method, group, metric).items()
                            },
                        }
                        for metric in METRICS
                    }
                    for method in results.methods
                },
                "spread": {
                    method: {metric: asdict(spread(results, method, group, metric)) for metric in METRICS}
                    for method in results.methods
                },
                "failures": {
                    method: {name: asdict(of_class) for name, of_class in of.items()}
                    for method, of in failures_of_group(results, group).items()
                },
                "paired": paired_records(results, group),
                "all_pairs": pairs_records(results, group),
            }
            for group in results.groups
        ],
        "cost": {
            method: {run.training: asdict(run.cost) for (name, _, _), run in results.runs.items() if name == method}
            for method in results.methods
        },
        "environment": {
            method: {
                run.training: dict(run.environment) for (name, _, _), run in results.runs.items() if name == method
            }
            for method in results.methods
        },
    }


def paired_records(results: Results, group: Group) -> dict[str, Any]:
    """The comparisons of a group with the first method, by method and metric, and within them by class."""
    compared = {metric: compare_all(results, metric) for metric in METRICS}
    return {
        method: {
            metric: record(of.with_baseline, (method, group.title))
            | {
                "by_structure": {
                    name: record(of.by_structure, (method, group.title, name))
                    for name in results.classes
                    if of.by_structure.comparisons
                }
            }
            for metric, of in compared.items()
        }
        for method in results.methods[1:]
    }


def pairs_records(results: Results, group: Group) -> dict[str, Any]:
    """By metric the mean ranks of the methods in a group, and the comparison of each pair, of three methods on."""
    compared = {metric: compare_all(results, metric) for metric in METRICS}
    return {
        metric: {
            "ranked_cases": of.ranks[group.title].shape[1],
            "mean_ranks": dict(zip(results.methods, map(nanmean, of.ranks[group.title]), strict=True)),
            "pairs": [
                {"baseline": key[0], "method": key[1]} | record(of.all_pairs, key)
                for key in of.all_pairs.comparisons
                if key[2] == group.title
            ],
        }
        for metric, of in compared.items()
        if of.all_pairs.comparisons
    }


def record(family: Family[Key], key: Key) -> dict[str, Any]:
    """The numbers of a comparison, and its verdict."""
    return asdict(family.comparisons[key]) | {"corrected_p": family.corrected[key], "verdict": family.verdict(key)}


def finite_only(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not know, by null."""
    if isinstance(value, Mapping):
        return {key: finite_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_only(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
