"""The output of a verb with several steps: its steps, its commands and all they print, on the screen and in a log."""

import codecs
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from nnunetv2_tpmamba.files import find_program

PATIENCE = 10  # seconds for a process to end by itself
LAST_LINES = 8  # of a failed command that its error message repeats


class Console:
    """Print text and write it to ``log`` as well; use it in a ``with`` statement.

    Args:
        log: file to write.
        steps: number of steps that the verb has.
    """

    def __init__(self, log: Path, steps: int) -> None:
        self.log = log
        self.steps = steps
        self.current = 0
        self._file = log.open("w", encoding="utf-8", errors="replace", newline="")

    def __enter__(self) -> "Console":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def say(self, text: str) -> None:
        """Print one line or several."""
        self._write(text + "\n")

    def step(self, title: str) -> None:
        """Begin the next step."""
        self.current += 1
        self.title = title
        self.say(f"\n[{self.current}/{self.steps}] {title}")

    def run(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Run one of nnU-Net's console commands to its end, and show it and what it prints.

        No process that the command started outlives it, even when this process is interrupted or terminated.

        Raises:
            FileNotFoundError: the command is not installed.
            RuntimeError: the command failed.
        """
        self.say(f"$ {shlex.join(command)}")
        program, *arguments = command
        tail = _Tail()
        with (
            termination_as_interrupt(),  # before the command begins, so that no signal finds it unguarded
            subprocess.Popen(
                [find_program(program), *arguments],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its worker processes can be ended with it
            ) as process,
        ):
            reader = threading.Thread(target=self._copy, args=(process.stdout, tail))
            try:
                reader.start()
                status = process.wait()
                reader.join(PATIENCE)
            finally:
                if reader.is_alive() or process.poll() is None:  # the command runs, or one of its processes does
                    end_session(process)
                if reader.ident is not None:
                    reader.join()
        if status != 0:
            raise RuntimeError(
                f"step {self.current} ({self.title}) failed: {program} ended with status {status}; its output is in "
                f"{self.log} and ends with:\n{tail.lines()}"
            )

    def _copy(self, pipe: Any, tail: "_Tail") -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := os.read(pipe.fileno(), 1 << 16):  # not line by line: progress bars end no line
            text = decoder.decode(chunk)
            tail.add(text)
            self._write(text)

    def _write(self, text: str) -> None:
        print(text, end="", flush=True)
        self._file.write(text)
        self._file.flush()


class _Tail:
    """The end of a long text."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, text: str) -> None:
        self.text = (self.text + text)[-10_000:]

    def lines(self) -> str:
        lines = [line.rstrip() for line in self.text.splitlines() if line.strip()]
        return "\n".join(f"  {line}" for line in lines[-LAST_LINES:])


def show_progress(text: str) -> None:
    """Show one line on a terminal; the next call replaces it."""
    if sys.stderr.isatty():
        print(f"\r\033[K  {text}" if text else "\r\033[K", end="", file=sys.stderr, flush=True)


def end_session(process: subprocess.Popen) -> None:
    """End a process that was started in a session of its own, and all processes in that session."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
        except ProcessLookupError:
            return
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM, which batch systems and ``timeout`` send, like Ctrl-C, so that child processes are ended too."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python handles signals only there
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
