"""``nnUNetv2_tpmamba study plan --estimate`` of the paper's trainer, compiled if there is time."""

import os
import re
import subprocess

from nnunetv2_tpmamba.gpu_report.work import DATASET, Work, command

ROW = re.compile(r"^\[\d+/\d+\] (?P<row>\w+): (?P<what>.+)$")
TO_COMPILE = 120  # seconds that it takes with compilation


def measure(work: Work) -> None:
    compiled = work.setting.device.type == "cuda" and work.seconds_left() > TO_COMPILE
    work.notebook.note("compiled", str(compiled))
    arguments = ["study", "plan", "-d", DATASET[7:10], "--rows", work.trainer, "--test", 1, "--estimate"]
    arguments += ["-device", work.setting.device.type, "--script", work.folder / "study.sh", "--overwrite"]
    results = work.folder / "estimate"  # a study refuses trainings on other cases, as other parts may have left
    results.mkdir()
    environment = os.environ | {"nnUNet_compile": "t" if compiled else "f", "nnUNet_results": str(results)}
    found = False
    with subprocess.Popen(
        command("nnUNetv2_tpmamba", *arguments), env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)  # at once, in case this part is cut off
            if row := ROW.match(line):
                found = True
                work.notebook.check(f"--estimate: {row['row']}", "s per iteration" in row["what"], row["what"])
    if process.returncode or not found:
        raise RuntimeError(f"nnUNetv2_tpmamba study plan --estimate ended with status {process.returncode}")
