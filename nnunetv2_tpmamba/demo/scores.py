"""Dice per case and class, read from what nnU-Net's evaluation wrote."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate


@dataclass(frozen=True)
class DiceTable:
    """Dice per case and class; NaN where a class is neither in the truth nor in the prediction."""

    cases: dict[str, dict[str, float]]

    @classmethod
    def read(cls, summary: Path, classes: Mapping[str, int | tuple[int, ...]], ending: str) -> "DiceTable":
        """Read nnU-Net's ``summary.json``.

        Args:
            classes: the value of each class, or the values of its region.
            ending: how the names of label maps end.
        """
        names = {str(value): name for name, value in classes.items()}
        return cls(
            {
                Path(case["prediction_file"]).name.removesuffix(ending): {
                    names[key]: metrics["Dice"] for key, metrics in case["metrics"].items()
                }
                for case in json.loads(summary.read_text())["metric_per_case"]
            }
        )

    def mean(self, case: str) -> float:
        """Mean Dice of one case."""
        return mean(list(self.cases[case].values()))

    def as_text(self, most_cases: int) -> str:
        """One line per class, one column for each of the first ``most_cases`` cases, and the means over all cases."""
        shown = list(self.cases)[:most_cases]
        classes = list(next(iter(self.cases.values())))
        over_cases = {name: mean([dice[name] for dice in self.cases.values()]) for name in classes}
        title = "mean" if len(shown) == len(self.cases) else f"mean of {len(self.cases)}"
        rows = [[name, *(self.cases[case][name] for case in shown), over_cases[name]] for name in classes]
        rows += [["mean", *map(self.mean, shown), mean(list(over_cases.values()))]]
        texts = [[name, *(f"{value:.3f}" for value in values)] for name, *values in rows]
        alignment = ("left", *["right"] * (len(shown) + 1))
        return tabulate([["", *shown, title], *texts], tablefmt="plain", colalign=alignment, disable_numparse=True)


def mean(values: list[float]) -> float:
    """Mean of the values that are defined."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
