"""A training step of every row of the paper's tables, not compiled: compiling each of them would take half an hour."""

from dataclasses import replace

from nnunetv2_tpmamba.benchmark import rows
from nnunetv2_tpmamba.benchmark.measure import run_task
from nnunetv2_tpmamba.gpu_report.work import Work

REPEATS = 3
SMALL_ROWS = ("nnUNetTrainerTestbed_nnUNet", "nnUNetTrainerTPMamba")


def measure(work: Work) -> None:
    setting = replace(work.setting, compiles=False, rows=SMALL_ROWS if work.setting.small else ())
    tasks = rows.tasks(setting)
    for done, task in enumerate(tasks):
        work.notebook.note("rows measured", f"{done} of {len(tasks)}")
        for result in run_task(task, setting.device, REPEATS):
            if result.name != rows.FORWARD:  # counted, the same everywhere
                work.notebook.result(result)
    work.notebook.note("rows measured", f"{len(tasks)} of {len(tasks)}")
