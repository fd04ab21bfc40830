"""Run a program that may fail, hang, crash or print without end: at its time limit it and all it started are ended."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import psutil

LOOK = 0.1  # seconds between two looks at the process
PATIENCE = 5  # seconds that a killed process has to disappear
KEPT = 100_000  # bytes of the output's beginning, and of its end

FINISHED, FAILED, CRASHED, TIMED_OUT, INTERRUPTED = "finished", "failed", "crashed", "timed out", "interrupted"


@dataclass(frozen=True)
class Ending:
    """How a program ended.

    Args:
        state: one of the five above.
        reason: why, if it did not finish.
        seconds: how long it ran.
        output: what it printed; of very much only the beginning and the end.
    """

    state: str
    reason: str
    seconds: float
    output: str


def run_limited(
    command: Sequence[str],
    env: Mapping[str, str],
    limit: float,
    on_look: Callable[[float], None] = lambda seconds: None,
) -> Ending:
    """Run a program for at most ``limit`` seconds; Ctrl-C ends it early, and is told as its state.

    Args:
        command: the program and its arguments.
        env: its environment.
        limit: seconds.
        on_look: is told now and then how many seconds it has run.
    """
    started = time.monotonic()
    output = _Output()
    process = subprocess.Popen(
        list(command),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that Ctrl-C reaches only the program that reports
    )
    assert process.stdout is not None
    reader = threading.Thread(target=output.read, args=(process.stdout,), daemon=True)
    reader.start()
    state = ""
    try:
        while process.poll() is None:
            seconds = time.monotonic() - started
            if seconds > limit:
                state = TIMED_OUT
                break
            on_look(seconds)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
    except KeyboardInterrupt:
        state = INTERRUPTED
    status = process.poll()
    end_with_descendants(process)
    reader.join(PATIENCE)  # a process that cannot be killed may hold the pipe for ever
    if not reader.is_alive():
        process.stdout.close()
    seconds = time.monotonic() - started
    text = output.text()
    if state == TIMED_OUT:
        return Ending(state, f"it ran longer than its limit of {limit:.0f} s and was ended", seconds, text)
    if state == INTERRUPTED:
        return Ending(state, "it was interrupted", seconds, text)
    assert status is not None
    if status < 0:
        return Ending(CRASHED, _by_signal(-status), seconds, text)
    if status:
        said = text.strip().splitlines()
        return Ending(FAILED, f"it ended with status {status}: {said[-1].strip() if said else ''}", seconds, text)
    return Ending(FINISHED, "", seconds, text)


def end_with_descendants(process: subprocess.Popen) -> None:
    """Kill a program that was started in a session of its own, and all that it started, also in other sessions."""
    descendants: list[psutil.Process] = []
    with suppress(psutil.Error):
        descendants = psutil.Process(process.pid).children(recursive=True)
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # also what a program that has ended left behind
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    for each in descendants:
        with suppress(psutil.Error):
            each.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    psutil.wait_procs(descendants, timeout=PATIENCE)


def _by_signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    text = f"its process was ended by {name}"
    return f"{text}, which the system sends if memory runs out" if name == "SIGKILL" else text


class _Output:
    """The beginning and the end of what a program prints, however much that is."""

    def __init__(self) -> None:
        self._head, self._tail, self._left_out = b"", b"", 0

    def read(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError):
            while chunk := os.read(pipe.fileno(), 1 << 16):
                room = KEPT - len(self._head)
                self._head += chunk[:room]
                tail = self._tail + chunk[room:]
                self._left_out += max(0, len(tail) - KEPT)
                self._tail = tail[-KEPT:]

    def text(self) -> str:
        gap = f"\n[... {self._left_out} bytes left out ...]\n" if self._left_out else ""
        return self._head.decode(errors="replace") + gap + self._tail.decode(errors="replace")
