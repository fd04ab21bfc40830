"""All tasks of the benchmark."""

from collections.abc import Collection
from importlib import import_module

from . import PARTS
from .setting import Setting
from .task import Task

MODULES = {
    "encoder": ("encoder",),
    "scan": ("scan",),
    "network": ("network", "training"),
    "prediction": ("prediction",),
    "flops": ("flops",),
    "rows": ("rows",),
}
"""The modules of each part; what they import takes seconds, so only those that are wanted are imported."""


def tasks_of(parts: Collection[str], setting: Setting) -> list[Task]:
    """List the tasks of these parts, in the order of ``PARTS``."""
    names = [f"{__package__}.{name}" for part in PARTS if part in parts for name in MODULES[part]]
    return [task for name in names for task in import_module(name).tasks(setting)]
