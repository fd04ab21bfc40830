"""A training step of the rows of the paper's table 1, not compiled: compiling each of them would take half an hour.

The other rows are ablations of one network; ``nnUNetv2_tpmamba benchmark --only rows`` measures them too.
"""

from dataclasses import replace

from nnunetv2_tpmamba.benchmark import rows
from nnunetv2_tpmamba.benchmark.measure import run_task
from nnunetv2_tpmamba.benchmark.task import Makers, Task
from nnunetv2_tpmamba.gpu_report.work import Work
from nnunetv2_tpmamba.trainers import catalogue

REPEATS = 1  # after the warm-up, which is a step too
SMALL_ROWS = ("nnUNetTrainerTestbed_nnUNet", "nnUNetTrainerTPMamba")


def measure(work: Work) -> None:
    chosen = SMALL_ROWS if work.setting.small else tuple(catalogue.rows_of_table_1())
    setting = replace(work.setting, compiles=False, rows=chosen)
    tasks = rows.tasks(setting)
    for done, task in enumerate(tasks):
        work.notebook.note("rows measured", f"{done} of {len(tasks)}")
        for result in run_task(step_alone(task), setting.device, REPEATS):
            work.notebook.result(result)
    work.notebook.note("rows measured", f"{len(tasks)} of {len(tasks)}")


def step_alone(task: Task) -> Task:
    """A row's task without the count of its operations, which takes seconds and is the same everywhere."""

    def prepare() -> Makers:
        return {rows.STEP: task.prepare()[rows.STEP]}

    return replace(task, prepare=prepare)
