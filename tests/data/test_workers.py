"""Real worker processes: whoever is killed, at whatever moment, the next call finishes the work."""

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from support.preprocessed_datasets import ENDINGS, Dataset, die

from nnunetv2_tpmamba.data import workers
from nnunetv2_tpmamba.data.manifest import Manifest

JOB = """
import os, pickle, signal, sys
from nnunetv2_tpmamba.data.preprocessing import ensure_preprocessed

def kill_at(last):
    replace, calls = os.replace, iter(range(1, 1000))
    def count(*args):
        if next(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)
    os.replace = count

if __name__ == "__main__":
    if len(sys.argv) > 2:
        kill_at(int(sys.argv[2]))
    with open(sys.argv[1], "rb") as file:
        data = pickle.load(file)
    ensure_preprocessed(data, num_processes=1, log=lambda line: print(line, flush=True))
"""


class TestRealProcesses:
    @pytest.fixture
    def unmade(self, tmp_path):
        """Four cases that take half a second each."""
        dataset = Dataset(tmp_path).create()
        for case in ("a", "bb", "ccc", "dddd"):
            dataset.add_case(case, np.random.default_rng(len(case)).normal(0, 300, (32, 40, 40)))
        (tmp_path / "data.pkl").write_bytes(pickle.dumps(dataset.planned()))
        (tmp_path / "job.py").write_text(JOB)
        return dataset

    def start(self, dataset, *arguments):
        base = dataset.raw.parents[1]
        command = [sys.executable, base / "job.py", base / "data.pkl", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def finished(self, dataset):
        manifest = Manifest.read(dataset.folder)
        return {case for case, record in manifest.cases.items() if record} if manifest else set()

    def check_complete(self, dataset):
        assert self.finished(dataset) == {"a", "bb", "ccc", "dddd"}
        assert set(dataset.made_at()) == {
            f"{case}{ending}" for case in ("a", "bb", "ccc", "dddd") for ending in ENDINGS
        }
        assert sorted(path.name for path in (dataset.folder / ".tpmamba").iterdir()) == ["lock", "manifest.json"]
        for case in ("a", "bb", "ccc", "dddd"):
            assert dataset.load(case)[0].shape == (1, 80, 80, 80)

    def test_killed_while_a_worker_is_busy(self, unmade):
        process = self.start(unmade)
        with process:
            while not self.finished(unmade):
                assert process.poll() is None
                time.sleep(0.01)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
        assert children
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline, "a worker outlived its killed parent"
            time.sleep(0.05)

        kept, before = self.finished(unmade), unmade.made_at()
        assert 0 < len(kept) < 4
        unmade.ensure()
        assert unmade.made_again(before) == {"a", "bb", "ccc", "dddd"} - kept
        assert f"preprocessing {4 - len(kept)} of 4 cases" in unmade.log[-2]
        self.check_complete(unmade)

    # os.replace is called for the empty manifest, then per case for three files, the label's copy and the manifest
    @pytest.mark.parametrize(("call", "at"), [(8, "between two files of the second case"), (11, "before its record")])
    def test_killed_while_a_case_is_put_in_place(self, unmade, call, at, sequential):
        process = self.start(unmade, call)
        with process:
            assert process.wait() == -signal.SIGKILL
        (kept,) = self.finished(unmade)
        assert len({name for name in unmade.made_at() if name.endswith(".b2nd")}) > 2, at
        before = unmade.made_at()
        unmade.ensure()
        assert {f"{kept}{ending}" for ending in ENDINGS} <= {
            n for n, t in unmade.made_at().items() if before.get(n) == t
        }
        assert "preprocessing 3 of 4 cases" in unmade.log[-2]
        self.check_complete(unmade)

    def test_two_at_once(self, unmade):
        processes = [self.start(unmade), self.start(unmade)]
        outputs = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        worker, waiter = sorted(outputs, key=lambda output: "another process is preparing" in output)
        assert "preprocessing 4 of 4 cases" in worker
        assert "waiting until it is done" in waiter
        assert "of 4 cases" not in waiter
        self.check_complete(unmade)

    def test_worker_dies(self, unmade, monkeypatch):
        monkeypatch.setattr(workers, "preprocess_case", die)
        with pytest.raises(
            RuntimeError, match=r"one of 1 preprocessing processes died, .* memory; .* with fewer processes"
        ):
            unmade.ensure(num_processes=1)
        assert self.finished(unmade) == set()
        assert FileLock(unmade.folder / ".tpmamba/lock").acquire(timeout=0)
        assert not list((unmade.folder / ".tpmamba").glob("staging-*"))
