"""Dice per case and class, read from what nnU-Net's evaluation wrote."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Scores:
    """Dice per case and class; NaN where a class is neither in the truth nor in the prediction."""

    cases: dict[str, dict[str, float]]

    @classmethod
    def read(cls, summary: Path, description: Mapping[str, Any]) -> "Scores":
        """Take them from nnU-Net's ``summary.json``, with the classes' names from ``dataset.json``."""
        keys = {str(tuple(v) if isinstance(v, list) else v): name for name, v in description["labels"].items()}
        return cls(
            {
                Path(case["prediction_file"]).name.removesuffix(description["file_ending"]): {
                    keys.get(key, key): metrics["Dice"] for key, metrics in case["metrics"].items()
                }
                for case in json.loads(summary.read_text())["metric_per_case"]
            }
        )

    def mean(self, case: str) -> float:
        return mean(list(self.cases[case].values()))

    def table(self, most_cases: int) -> str:
        """One line per class, one column for each of the first ``most_cases`` cases, and the means over all."""
        shown = list(self.cases)[:most_cases]
        classes = list(next(iter(self.cases.values())))
        of_all = {name: mean([scores[name] for scores in self.cases.values()]) for name in classes}
        rows = [["", *shown, "mean" if len(shown) == len(self.cases) else f"mean of {len(self.cases)}"]]
        rows += [[name, *(f"{self.cases[c][name]:.3f}" for c in shown), f"{of_all[name]:.3f}"] for name in classes]
        rows += [["mean", *(f"{self.mean(c):.3f}" for c in shown), f"{mean(list(of_all.values())):.3f}"]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        )


def mean(values: list[float]) -> float:
    """Mean of the values that are defined."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
