"""The process of one part; its arguments are those that :mod:`.report` gives it."""

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from .notebook import Notebook

BEFORE_THE_END = 3  # seconds before its limit at which a part prints where its threads are
WAITING = ("threading.py", "queue.py", "selectors.py", "thread.py")  # of Python; helpers wait there for work
SMALL, FULL = "small", "full"


def main() -> int:
    """Run the part; its exit status is 1 if it raises."""
    module, folder, notebook_file, device, limit, sizes = sys.argv[1:]
    started = time.monotonic()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    threading.Thread(target=tell_where, args=(float(limit) - BEFORE_THE_END, os.dup(2)), daemon=True).start()
    notebook = Notebook(Path(notebook_file))
    try:
        import torch

        notebook.note("until PyTorch was imported", round(time.monotonic() - started, 1), "s")
        from nnunetv2_tpmamba.benchmark.setting import Setting
        from nnunetv2_tpmamba.trainers.memory import die_first

        from .work import Work

        die_first()
        torch.backends.cudnn.benchmark = True  # as in nnU-Net
        setting = Setting.of(torch.device(device), small=sizes == SMALL)
        work = Work(setting, Path(folder), notebook, started + float(limit))
        part = importlib.import_module(module)
        notebook.note("until it began", round(time.monotonic() - started, 1), "s")
        part.measure(work)
    except Exception as error:
        traceback.print_exc()
        notebook.error(f"{type(error).__name__}: {error}".strip().splitlines()[0])
        return 1
    return 0


def tell_where(seconds: float, descriptor: int) -> None:
    """After a while, print where the threads are, the main one last, its innermost call at the end.

    This is ordinary Python code: ``faulthandler.dump_traceback_later`` reads other threads' frames while they run, and
    crashed processes in which torch.compile was at work. It prints nothing where C code never lets other threads run.

    Args:
        seconds: to wait.
        descriptor: of the file to print to; pytest redirects the usual one.
    """
    time.sleep(max(0.1, seconds))
    main = threading.main_thread().ident
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    texts = []
    for ident, frame in sorted(sys._current_frames().items(), key=lambda item: item[0] == main):
        file = frame.f_code.co_filename
        if ident == main or (file != __file__ and os.path.basename(file) not in WAITING):
            texts.append("\n".join([f"Thread {names.get(ident, ident)}, most recent call last:", *calls(frame)]))
    os.write(descriptor, ("Where it is shortly before its limit:\n" + "\n".join(texts) + "\n").encode())


def calls(frame: FrameType | None) -> list[str]:
    """The calls that led to a frame, as tracebacks name them, but without reading source files."""
    lines: list[str] = []
    while frame is not None:
        lines.insert(0, f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}')
        frame = frame.f_back
    return lines


def end_with(parent: int) -> None:
    """Wait for the end of the process that reports, then end this one and what it started: nobody else would."""
    while os.getppid() == parent:
        time.sleep(1)
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)  # the group is this process's own, see run_limited
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
