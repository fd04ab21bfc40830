"""``nnUNetv2_train`` of a small trainer, stopped by a signal in an epoch, and continued: on two cards with NCCL.

Where there is one card, and time, the training is compiled, which shows that torch.compile works across ``--c``.
"""

import os
import re
import signal
import subprocess
import time

import psutil
import torch

from nnunetv2_tpmamba.comparison.runs import read_logs
from nnunetv2_tpmamba.config import PREEMPTED
from nnunetv2_tpmamba.gpu_report.work import CONFIGURATION, DATASET, SMALL_TRAINER, Work, command

MOST_CARDS = 2
LOOK = 0.2  # seconds
TO_COMPILE = 150  # seconds that two trainings take with compilation
EPOCHS = {"stopped": "1000", "continued": "2"}
IN_AN_EPOCH = re.compile(r"Epoch 1\b")
STOPPED = re.compile(r"Stopped by SIGUSR1 in epoch \d+; checkpoint_latest\.pth holds the \d+ epochs? before it")


def measure(work: Work) -> None:
    cards = min(torch.cuda.device_count(), MOST_CARDS) if work.setting.device.type == "cuda" else 1
    compiled = cards == 1 and work.setting.device.type == "cuda" and work.seconds_left() > TO_COMPILE
    work.notebook.note("cards that train together", cards)
    work.notebook.note("compiled", str(compiled))
    stop(work, cards, compiled)
    arguments, environment = training(work, cards, compiled, EPOCHS["continued"])
    started = time.monotonic()
    work.run(*arguments, "--c", **environment)
    work.notebook.note("--c to the end, validation included", round(time.monotonic() - started, 1), "s")
    final = work.model(SMALL_TRAINER) / "checkpoint_final.pth"
    epochs = torch.load(final, "cpu", weights_only=False)["current_epoch"]
    work.notebook.check("--c ended with the last epoch", epochs == int(EPOCHS["continued"]), epochs)


def training(work: Work, cards: int, compiled: bool, epochs: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a training."""
    device = work.setting.device.type
    arguments = ["nnUNetv2_train", DATASET[7:10], CONFIGURATION, "0", "-tr", SMALL_TRAINER, "-device", device]
    arguments += ["-num_gpus", str(cards)] if cards > 1 else []
    return arguments, {"TPMAMBA_DEMO_EPOCHS": epochs, "nnUNet_compile": "t" if compiled else "f"}


def stop(work: Work, cards: int, compiled: bool) -> None:
    """Train until the second epoch runs, then send SIGUSR1 to one process, as a scheduler does to a job.

    The training ends after the iteration that runs then, and its checkpoint holds the first epoch.

    Raises:
        RuntimeError: the training ended before.
    """
    arguments, environment = training(work, cards, compiled, EPOCHS["stopped"])
    started = time.monotonic()
    process = subprocess.Popen(command(*arguments), env=os.environ | environment)
    while not IN_AN_EPOCH.search(read_logs(work.model(SMALL_TRAINER))):
        if process.poll() is not None:
            raise RuntimeError(f"nnUNetv2_train ended with status {process.returncode} before its second epoch")
        time.sleep(LOOK)
    work.notebook.note("from the start to the second epoch", round(time.monotonic() - started, 1), "s")
    started = time.monotonic()
    os.kill(one_of_the_trainings(process.pid) if cards > 1 else process.pid, signal.SIGUSR1)
    status = process.wait()
    work.notebook.note(
        "from SIGUSR1 to the end, the first iteration included", round(time.monotonic() - started, 1), "s"
    )
    expected = 1 if cards > 1 else PREEMPTED  # nnU-Net's own process does not hand its trainings' status on
    work.notebook.check(f"status {expected} after SIGUSR1", status == expected, status)
    found = STOPPED.search(read_logs(work.model(SMALL_TRAINER)))
    saved = (work.model(SMALL_TRAINER) / "checkpoint_latest.pth").is_file()
    work.notebook.check(
        "the running epoch's start was saved", bool(found) and saved, found[0] if found else "not logged"
    )


def one_of_the_trainings(parent: int) -> int:
    """A process that nnU-Net started for one of several cards."""
    trainings = [child for child in psutil.Process(parent).children() if "spawn_main" in " ".join(child.cmdline())]
    if not trainings:
        raise RuntimeError("nnUNetv2_train started no process for a card")
    return trainings[0].pid
