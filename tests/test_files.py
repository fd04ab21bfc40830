"""Files are written whole or not at all; a lock is held by one process at a time, and by no dead one."""

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nnunetv2_tpmamba.files import acquire, sha256, unwritten, whole_or_absent

SLOW_WRITER = """
import sys, time
from pathlib import Path
from nnunetv2_tpmamba.files import whole_or_absent
with whole_or_absent(Path(sys.argv[1])) as unfinished:
    unfinished.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""

HOLDER = """
import sys, time
from pathlib import Path
from nnunetv2_tpmamba.files import acquire
with acquire(Path(sys.argv[1]), print, "waiting"):
    print("holds it", flush=True)
    time.sleep(60)
"""


def fail_after_a_part(file, error):
    file.write_bytes(b"ne")
    raise error


class TestWholeOrAbsent:
    def test_replaces_the_former_file(self, tmp_path):
        path = tmp_path / "file.pth"
        path.write_bytes(b"old")
        with whole_or_absent(path) as unfinished:
            assert path.read_bytes() == b"old"
            unfinished.write_bytes(b"new")
        assert path.read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["file.pth"]

    @pytest.mark.parametrize("error", [OSError, RuntimeError, KeyboardInterrupt])
    def test_an_error_leaves_the_former_file(self, tmp_path, error):
        path = tmp_path / "file.pth"
        path.write_bytes(b"old")
        with pytest.raises(error), whole_or_absent(path) as unfinished:
            fail_after_a_part(unfinished, error)
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file.pth"]

    def test_sigkill_leaves_the_former_file_and_the_next_call_cleans_up(self, tmp_path):
        path = tmp_path / "file.pth"
        path.write_bytes(b"old")
        with subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(path)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert path.read_bytes() == b"old"
        assert len(os.listdir(tmp_path)) == 2
        with whole_or_absent(path) as unfinished:
            unfinished.write_bytes(b"new")
        assert path.read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["file.pth"]

    def test_others_may_read_it(self, tmp_path):
        ordinary, path = tmp_path / "ordinary", tmp_path / "file.pth"
        ordinary.write_bytes(b"")
        with whole_or_absent(path) as unfinished:
            unfinished.write_bytes(b"new")
        assert path.stat().st_mode == ordinary.stat().st_mode

    def test_the_name_cannot_be_foreseen(self, tmp_path):
        names = []
        for _ in range(2):
            with whole_or_absent(tmp_path / "file.pth") as unfinished:
                unfinished.write_bytes(b"")
                names.append(unfinished.parent)
        assert names[0] != names[1]


class TestLocks:
    @pytest.fixture
    def holder(self, tmp_path):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "holds it\n"
        yield process
        process.kill()
        process.communicate()

    def test_waits_for_another_process_and_says_so(self, holder, tmp_path):
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

    def test_nothing_is_said_without_another_process(self, tmp_path):
        said = []
        for _ in range(2):
            with acquire(tmp_path / "lock", said.append, "another works"):
                time.sleep(0)
        assert said == []

    def test_a_group_may_use_the_lock_of_one_of_it(self, tmp_path):
        former = os.umask(0o002)
        try:
            with acquire(tmp_path / "lock", print, "another works"):
                assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664
        finally:
            os.umask(former)

    @pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
    def test_goes_on_where_the_file_system_has_no_locks(self, tmp_path, monkeypatch, error):
        """No lock file may stand for a lock: after a kill, others would wait for it forever."""

        def flock(*args):
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(fcntl, "flock", flock)
        said = []
        for _ in range(2):
            with acquire(tmp_path / "lock", said.append, "another works"):
                pass
        assert len(said) == 2
        assert f"the file system of {tmp_path} has no locks ({os.strerror(error)}); start nothing else" in said[0]

    def test_other_errors_are_the_callers(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="file"):
            acquire(tmp_path / "file" / "lock", print, "another works")


def test_sha256_is_the_content_s(tmp_path):
    content = os.urandom((1 << 20) + 7)  # more than is read at a time
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_what_is_said_of_a_file_that_could_not_be_written(tmp_path):
    path = tmp_path / "file.pth"
    said = unwritten(path, OSError("No space left\nTraceback"))
    assert said.startswith(f"{path} could not be written (No space left); ")
    assert said.endswith(" MB are free there")
    assert f"{path} could not be written (ValueError); " in unwritten(path, ValueError())
