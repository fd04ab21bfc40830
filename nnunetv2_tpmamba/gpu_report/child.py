"""The process of one part; its arguments are those that :mod:`.report` gives it."""

import faulthandler
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from .notebook import Notebook

BEFORE_THE_END = 3  # seconds before its limit at which a part prints where all its threads are
SMALL, FULL = "small", "full"


def main() -> int:
    """Run the part; its exit status is 1 if it raises."""
    module, folder, notebook_file, device, limit, sizes = sys.argv[1:]
    started = time.monotonic()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    faulthandler.dump_traceback_later(max(0.1, float(limit) - BEFORE_THE_END))
    notebook = Notebook(Path(notebook_file))
    try:
        import torch

        from nnunetv2_tpmamba.benchmark.setting import Setting
        from nnunetv2_tpmamba.trainers.memory import die_first

        from .work import Work

        die_first()
        torch.backends.cudnn.benchmark = True  # as in nnU-Net
        setting = Setting.of(torch.device(device), small=sizes == SMALL)
        work = Work(setting, Path(folder), notebook, started + float(limit))
        importlib.import_module(module).measure(work)
    except Exception as error:
        traceback.print_exc()
        notebook.error(f"{type(error).__name__}: {error}".strip().splitlines()[0])
        return 1
    return 0


def end_with(parent: int) -> None:
    """Wait for the end of the process that reports, then end this one and what it started: nobody else would."""
    while os.getppid() == parent:
        time.sleep(1)
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)  # the group is this process's own, see run_limited
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
