"""A part that hangs says where, and is not made to crash by that."""

import os
import sys

import pytest

from nnunetv2_tpmamba.gpu_report.pages import LAST_LINES
from nnunetv2_tpmamba.gpu_report.process import TIMED_OUT, run_limited

PART = """
import ctypes, os, queue, threading, time
from nnunetv2_tpmamba.gpu_report.child import end_with, tell_where

def busy():
    while True:
        sum(range(99))

def compute():
    {hang}

for target, *arguments in ((end_with, os.getppid()), (queue.Queue().get,), (threading.Event().wait,), (busy,)):
    threading.Thread(target=target, args=arguments, daemon=True).start()
threading.Thread(target=tell_where, args=(0.5, os.dup(2)), daemon=True).start()
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # as pytest does
compute()
"""


def run(hang, limit=3.0):
    return run_limited([sys.executable, "-c", PART.format(hang=hang)], os.environ, limit)


@pytest.mark.parametrize(
    "hang", ["time.sleep(600)", "ctypes.CDLL(None).sleep(600)", "busy()"], ids=["sleeps", "in C", "computes"]
)
def test_one_that_hangs_says_where(hang):
    ending = run(hang)
    assert ending.state == TIMED_OUT
    threads = ending.output.split("Thread ")
    assert len(threads) == 3  # helpers that only wait are left out
    assert "in busy" in threads[1]
    assert threads[2].startswith("MainThread, most recent call last:")
    assert "in compute" in "\n".join(threads[2].splitlines()[-2:] if hang == "busy()" else threads[2].splitlines()[-1:])
    assert len(threads[2].splitlines()) < LAST_LINES


def test_one_that_holds_pythons_lock_for_ever_only_times_out():
    ending = run("ctypes.PyDLL(None).sleep(600)")
    assert (ending.state, ending.output) == (TIMED_OUT, "")
