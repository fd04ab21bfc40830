"""The benchmark's encoder, network and sliding window, in sizes that take seconds on a GPU."""

from dataclasses import replace

from nnunetv2_tpmamba.benchmark.catalogue import tasks_of
from nnunetv2_tpmamba.benchmark.measure import run_task
from nnunetv2_tpmamba.doctor.speed import patches_of_cube
from nnunetv2_tpmamba.gpu_report.work import Work

PARTS = ("encoder", "network", "prediction")
REPEATS = 3
CT, LARGE_CT = 144, 300  # mm, the sides of what is predicted, and of what the benchmark predicts by default
MIRRORS = 8


def measure(work: Work) -> None:
    setting = replace(work.setting, mirroring=False, compiles=False)
    if not setting.small:
        setting = replace(setting, ct=CT)
        more = MIRRORS * patches_of_cube(LARGE_CT, setting.patch_size) / patches_of_cube(CT, setting.patch_size)
        work.notebook.note(
            f"a CT of {LARGE_CT} mm with mirror images takes, beside one of {CT} mm without",
            round(more),
            "times as long",
        )
    for task in tasks_of(PARTS, setting):
        for result in run_task(task, setting.device, REPEATS):
            work.notebook.result(result)
