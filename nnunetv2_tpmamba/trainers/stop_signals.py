"""SIGUSR1 and SIGTERM, by which a scheduler or a user asks a training to end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import NoReturn

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM) if hasattr(signal, "SIGUSR1") else (signal.SIGTERM,)  # on Windows
SAME_SIGNAL = 2.0  # s; a scheduler may deliver one signal twice, to the training and to the step that it is in


@contextmanager
def handled_by(handler: Callable[[signal.Signals], object], *more: signal.Signals) -> Iterator[None]:
    """Let ``handler`` receive the stop signals until the context ends; then the former handlers do again.

    Outside a process's main thread nothing changes, because Python handles signals there only.

    Args:
        handler: is called in the main thread, between two steps of the interpreter.
        more: signals to receive beside the stop signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {
        number: signal.signal(number, lambda number, frame: handler(signal.Signals(number)))
        for number in (*STOP_SIGNALS, *more)
    }
    try:
        yield
    finally:
        for number, one in former.items():
            signal.signal(number, signal.SIG_DFL if one is None else one)


@contextmanager
def withheld() -> Iterator[None]:
    """Withhold the stop signals from every process that is started in this context, as long as it lives.

    A scheduler signals all processes of a job. Data workers that ended by it would make the training fail before it
    could save.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # Python starts it with the first process, and then withholds SIGTERM no longer
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def kill_children(spared: Collection[BaseProcess] = ()) -> None:
    """Kill the other processes that this one started with ``multiprocessing``, also those that withhold SIGTERM."""
    for child in multiprocessing.active_children():
        if child not in spared:
            child.kill()


def end_at_once(status: int) -> NoReturn:
    """End this process and its children without any clean-up."""
    kill_children()
    os._exit(status)
