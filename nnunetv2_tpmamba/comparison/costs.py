"""The report's table of what trainings and predictions took."""

from collections.abc import Sequence
from typing import Any

from .document import Table
from .results import Results
from .runs import Cost

EXPLANATION = (
    "Seconds per epoch and per predicted case are medians of a training; of several, the smallest and the largest. "
    "The cases are those of nnU-Net's final validation, each from its beginning to that of the next, while other "
    "processes write label maps; so the time of a single case is not known. On a CPU, peak memory is that of the whole "
    "process."
)


def cost_table(results: Results) -> Table:
    """A row per method: what its trainings and their final validations took."""
    header = ["", "trainings", "epochs", "s per epoch", "hours in all", "parameters", "trained", "checkpoint"]
    header += ["peak memory", "s per predicted case", "peak memory of prediction"]
    rows = []
    for method in results.methods:
        costs = [run.cost for (name, _, _), run in results.runs.items() if name == method]

        def of(name: str, costs: Sequence[Cost] = costs) -> list[Any]:
            return [value for cost in costs if (value := getattr(cost, name)) is not None]

        epochs, hours = of("epochs"), of("hours")
        rows.append(
            [
                method,
                str(len(costs)),
                ", ".join(map(str, sorted(set(epochs)))) or "unknown",
                one_or_range(of("epoch_seconds")),
                f"{sum(hours):.2f}" if len(hours) == len(costs) else "unknown",
                millions(of("parameters")),
                millions(of("trained_parameters")),
                f"{max(of('checkpoint_bytes')) / 1e6:.0f} MB" if of("checkpoint_bytes") else "unknown",
                largest_gb(of("peak_memory_gb")),
                one_or_range(of("prediction_seconds")),
                largest_gb(of("prediction_memory_gb")),
            ]
        )
    return Table(header, rows)


def millions(values: Sequence[int]) -> str:
    """The largest of some numbers, in millions."""
    return f"{max(values) / 1e6:.2f} M" if values else "unknown"


def one_or_range(seconds: Sequence[float]) -> str:
    """The smallest and the largest of some times."""
    return " to ".join(dict.fromkeys(f"{s:.1f}" for s in (min(seconds), max(seconds)))) if seconds else "unknown"


def largest_gb(values: Sequence[float]) -> str:
    """The largest of some sizes in GB."""
    return f"{max(values):.1f} GB" if values else "not logged"
