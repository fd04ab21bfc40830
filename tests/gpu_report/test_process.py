"""A program that fails, hangs, crashes or prints without end is told apart, and nothing of it is left running."""

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from nnunetv2_tpmamba.gpu_report.process import (
    CRASHED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    KEPT,
    TIMED_OUT,
    run_limited,
)

SLEEPER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=%s)
print(child.pid, flush=True)
"""


def run(code, limit=30.0, **options):
    return run_limited([sys.executable, "-c", code], os.environ, limit, **options)


def test_what_it_printed_is_kept():
    ending = run("import sys; print('out', flush=True); print('err', file=sys.stderr)")
    assert (ending.state, ending.reason, ending.output) == (FINISHED, "", "out\nerr\n")
    assert 0 < ending.seconds < 30


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("raise ValueError('wrong')", FAILED, "it ended with status 1: ValueError: wrong"),
        ("import sys; sys.exit(3)", FAILED, "it ended with status 3: "),
        ("import os; os.abort()", CRASHED, "its process was ended by SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", CRASHED, "its process was ended by SIGSEGV"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            CRASHED,
            "its process was ended by SIGKILL, which the system sends if memory runs out",
        ),
        ("bytearray(10**16)", FAILED, "it ended with status 1: MemoryError"),
    ],
    ids=["raises", "exits", "aborts", "segfaults", "killed", "no memory"],
)
def test_how_it_ended_is_told(code, state, reason):
    ending = run(code)
    assert (ending.state, ending.reason) == (state, reason)


@pytest.mark.parametrize("new_session", [False, True])
def test_one_that_hangs_is_ended_with_all_that_it_started(new_session):
    """It ignores the polite signals, and its child may have left for a session of its own."""
    hang = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    ending = run(SLEEPER % new_session + hang, limit=2.0)
    assert (ending.state, ending.reason) == (TIMED_OUT, "it ran longer than its limit of 2 s and was ended")
    pid, said = ending.output.split()
    assert said == "on"
    assert 2 < ending.seconds < 12
    assert not is_running(int(pid))


def test_what_a_finished_one_left_behind_is_ended():
    """A process that it started still holds the pipe."""
    ending = run(SLEEPER % False)
    assert ending.state == FINISHED
    assert not is_running(int(ending.output))


def is_running(pid):
    """Whether a process is still there in a while; one that was killed takes a moment to end."""
    for _ in range(50):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.1)
    return True


def test_garbage_is_text_afterwards():
    ending = run("import os; os.write(1, bytes(range(256)))")
    assert ending.state == FINISHED
    assert "ABC" in ending.output
    ending.output.encode()


def test_of_endless_output_the_beginning_and_the_end_are_kept():
    code = "import sys\nsys.stdout.write('first ' + 'x' * 9_000_000 + ' last')"
    ending = run(code)
    assert ending.state == FINISHED
    assert ending.output.startswith("first x")
    assert ending.output.endswith("x last")
    assert "bytes left out" in ending.output
    assert len(ending.output) < 2 * KEPT + 100
    assert run("while True: print('x' * 1000)", limit=1.0).state == TIMED_OUT


def test_ctrl_c_ends_it_and_is_told():
    def interrupt():
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        ending = run("import time; time.sleep(600)")
        thread.join()
    finally:
        signal.signal(signal.SIGINT, former)
    assert ending.state == INTERRUPTED
    assert ending.seconds < 20


def test_time_is_told_while_it_runs():
    told = []
    run("import time; time.sleep(0.5)", on_look=told.append)
    assert told == sorted(told)
    assert len(told) > 1
