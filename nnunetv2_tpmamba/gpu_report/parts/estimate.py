"""``nnUNetv2_tpmamba study plan --estimate`` of the paper's trainer, compiled as in the part training."""

import re
import subprocess

from nnunetv2_tpmamba.gpu_report.work import DATASET, Work, command

ROW = re.compile(r"^\[\d+/\d+\] (?P<row>\w+): (?P<what>.+)$", re.MULTILINE)


def measure(work: Work) -> None:
    arguments = ["study", "plan", "-d", DATASET[7:10], "--rows", work.trainer, "--test", 1, "--estimate"]
    arguments += ["-device", work.setting.device.type, "--script", work.folder / "study.sh", "--overwrite"]
    answer = subprocess.run(command("nnUNetv2_tpmamba", *arguments), capture_output=True, text=True, check=False)
    print(answer.stdout, answer.stderr, sep="\n", flush=True)
    found = list(ROW.finditer(answer.stdout))
    for each in found:
        measured = "s per iteration" in each["what"]
        work.notebook.check(f"--estimate: {each['row']}", measured, each["what"])
    if answer.returncode or not found:
        raise RuntimeError(f"nnUNetv2_tpmamba study plan --estimate ended with status {answer.returncode}")
