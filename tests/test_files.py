"""A lock is held by one process at a time, by no dead one, and done without where the file system has none."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nnunetv2_tpmamba.locks import acquire

HOLDER = """
import sys, time
from pathlib import Path
from nnunetv2_tpmamba.locks import acquire
with acquire(Path(sys.argv[1]), print, "waiting"):
    print("holds it", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds it\n"
    yield process
    process.kill()
    process.communicate()


def test_waits_for_another_process_and_says_so(holder, tmp_path):
    said, got = [], threading.Event()

    def wait():
        with acquire(tmp_path / "lock", said.append, "another works"):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(1)
    assert said == [f"another works (it holds {tmp_path / 'lock'})"]
    os.kill(holder.pid, signal.SIGKILL)  # a dead process holds nothing
    assert got.wait(30)
    thread.join()


def test_nothing_is_said_without_another_process(tmp_path):
    said = []
    for _ in range(2):
        with acquire(tmp_path / "lock", said.append, "another works"):
            time.sleep(0)
    assert said == []


def test_a_group_may_use_the_lock_of_one_of_it(tmp_path):
    former = os.umask(0o002)
    try:
        with acquire(tmp_path / "lock", print, "another works"):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(former)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_goes_on_where_the_file_system_has_no_locks(tmp_path, monkeypatch, error):
    """With nothing left behind that would be waited for after a kill."""

    def flock(*args):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    said = []
    for _ in range(2):
        with acquire(tmp_path / "lock", said.append, "another works"):
            pass
    assert len(said) == 2
    assert f"the file system of {tmp_path} has no locks ({os.strerror(error)}); start nothing else" in said[0]


def test_other_errors_are_the_callers(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        acquire(tmp_path / "file" / "lock", print, "another works")
