"""Structures that a method misses or invents, and how wrong its volumes are: what a mean Dice does not show."""

import math
import statistics
from dataclasses import dataclass

from .document import DASH, Block, Details, Heading, Paragraph, Table
from .metrics import PREDICTION_ML, TRUTH_ML
from .results import Group, Results


@dataclass(frozen=True)
class Failures:
    """What went wrong with one class, over the cases of all trainings of a group.

    Args:
        missed: cases in which truth has the class and the prediction has not, of ``present``.
        invented: cases in which the prediction has the class and truth has not, of ``absent``.
        invented_ml: the largest volume that was invented.
        median_error, worst_error: of the predicted volume, as a part of the true one, where truth has the class; -1 for
            a missed structure. NaN if no truth has the class. The worst is the largest in size.
    """

    missed: int
    present: int
    invented: int
    absent: int
    invented_ml: float
    median_error: float
    worst_error: float

    def __str__(self) -> str:
        """Both kinds in words, or a dash."""
        kinds = [f"missed in {self.missed} of {self.present}"] * (self.missed > 0)
        if self.invented:
            kinds.append(f"invented in {self.invented} of {self.absent} (up to {self.invented_ml:.2g} ml)")
        return ", ".join(kinds) or DASH


def failures(results: Results, method: str, group: Group, name: str) -> Failures:
    """Count the failures of a method with one class; a case of several trainings counts once for each."""
    cases = [scores[name] for scores in results.all_scores(method, group)]
    present = [(values[TRUTH_ML], values[PREDICTION_ML]) for values in cases if values[TRUTH_ML]]
    predicted = [values[PREDICTION_ML] for values in cases if not values[TRUTH_ML]]
    errors = [prediction / truth - 1 for truth, prediction in present]
    return Failures(
        missed=sum(not prediction for _, prediction in present),
        present=len(present),
        invented=sum(ml > 0 for ml in predicted),
        absent=len(predicted),
        invented_ml=max(predicted, default=0.0),
        median_error=statistics.median(errors) if errors else math.nan,
        worst_error=max(errors, key=abs, default=math.nan),
    )


def failures_of_group(results: Results, group: Group) -> dict[str, dict[str, Failures]]:
    """The failures of each method with each class."""
    return {
        method: {name: failures(results, method, group, name) for name in results.classes} for method in results.methods
    }


def failure_blocks(results: Results) -> list[Block]:
    """What the report says of failures: for each group the structures missed and invented, and the volume errors."""
    blocks: list[Block] = [Heading("Failures")]
    volumes: list[Block] = []
    for group in results.groups:
        found = failures_of_group(results, group)
        failed = [name for name in results.classes if any(str(of[name]) != DASH for of in found.values())]
        blocks.append(Heading(group.named, 3))
        if failed:
            blocks.append(Table(["", *failed], [[m, *(str(of[name]) for name in failed)] for m, of in found.items()]))
        else:
            blocks.append(Paragraph("No method missed or invented a structure in any case."))
        rows = [[method, *(volume_error(of[name]) for name in results.classes)] for method, of in found.items()]
        volumes += [Heading(group.named, 3), Table(["", *results.classes], rows)]
    return [*blocks, Details("Error of the volume of single structures", volumes)]


EXPLANATION = (
    "A structure is missed where truth has it and the prediction has no voxel of it, and invented where only the "
    "prediction has it; both are counted over the cases that could show it, and a case tested by several trainings "
    "counts in each. Error of the volume: predicted minus true volume in percent of the true one, the median and the "
    "worst of the cases whose truth has the structure; -100 % is a missed one."
)


def volume_error(of: Failures) -> str:
    """Median and worst error in percent."""
    return DASH if math.isnan(of.median_error) else f"{of.median_error:+.0%} (worst {of.worst_error:+.0%})"
