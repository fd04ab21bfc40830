"""With what the methods were trained: the report's table of environments, and a note where they differ."""

from collections.abc import Iterable

from .document import Table
from .results import Results
from .runs import Run

NAMES = {
    "python": "Python",
    "torch": "PyTorch",
    "nnunetv2": "nnU-Net",
    "nnunetv2_tpmamba": "nnunetv2_tpmamba",
    "device": "device",
    "processor": "processor",
    "encoder_sha256": "weights of the encoder",
}
DIGITS = 12  # shown of a SHA-256
EXPLANATION = (
    "As this package's trainers log it when a training begins, and as nnU-Net's debug.json has it of any training. "
    "Weights of the encoder: their name and the first digits of the SHA-256 of their tensors."
)


def environment_table(results: Results) -> Table:
    """A row per method, a column for everything that is known of any; several values are those of several trainings."""
    known = [name for name in NAMES if any(name in run.environment for run in results.runs.values())]
    rows = []
    for method in results.methods:
        runs = [run for (of, _, _), run in results.runs.items() if of == method]
        rows.append([method, *(", ".join(dict.fromkeys(value(run, name) for run in runs)) for name in known)])
    return Table(["", *(NAMES[name] for name in known)], rows)


def value(run: Run, name: str) -> str:
    """What one training says of a part of its environment."""
    if name not in run.environment:
        return "none logged" if name == "encoder_sha256" else "unknown"
    if name == "encoder_sha256":
        return f"{run.environment.get('encoder', '')} {run.environment[name][:DIGITS]}".strip()
    return run.environment[name]


def different_environments(runs: Iterable[Run]) -> list[str]:
    """A note that names what the trainings differ in; what is not known of a training differs from nothing."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, of_run in run.environment.items():
            values.setdefault(name, set()).add(of_run)
    differing = [shown for name, shown in NAMES.items() if len(values.get(name, ())) > 1]
    return [f"The trainings differ in {', '.join(differing)}; see Environment."] if differing else []
