"""Who receives SIGUSR1 and SIGTERM, and when."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from nnunetv2_tpmamba.trainers.stop_signals import STOP_SIGNALS, handled_by, kill_children, withheld


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_handler_receives_them_until_the_context_ends(number):
    former, outer, inner = signal.getsignal(number), [], []
    with handled_by(outer.append):
        with handled_by(inner.append):
            os.kill(os.getpid(), number)
        assert (outer, inner) == ([], [number])
        os.kill(os.getpid(), number)
        assert (outer, inner) == ([number], [number])
    assert signal.getsignal(number) is former


def test_another_thread_than_the_main_one_changes_nothing():
    former, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with handled_by(pytest.fail):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [former]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_started_while_they_are_withheld_never_receives_them(method):
    received = []
    with handled_by(received.append):
        with withheld():
            process = multiprocessing.get_context(method).Process(target=time.sleep, args=(60,))
            process.start()
            os.kill(os.getpid(), signal.SIGUSR1)
        assert received == [signal.SIGUSR1]  # at the latest when they are withheld no longer
    for number in STOP_SIGNALS:
        os.kill(process.pid, number)
    kill_children(spared=[process])
    process.join(1)
    assert process.is_alive()
    kill_children()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
