"""All tasks of the benchmark."""

from collections.abc import Callable, Collection

from . import PARTS, encoder, flops, network, prediction, rows, scan, training
from .setting import Setting
from .task import Task

TASKS: dict[str, list[Callable[[Setting], list[Task]]]] = {
    "encoder": [encoder.tasks],
    "scan": [scan.tasks],
    "network": [network.tasks, training.tasks],
    "prediction": [prediction.tasks],
    "flops": [flops.tasks],
    "rows": [rows.tasks],
}


def tasks_of(parts: Collection[str], setting: Setting) -> list[Task]:
    """List the tasks of these parts, in the order of ``PARTS``."""
    return [task for part in PARTS if part in parts for tasks in TASKS[part] for task in tasks(setting)]
