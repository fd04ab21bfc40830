"""Checkpoint files are written whole or not at all, and read without running code."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from nnunetv2_tpmamba.files import whole_or_absent
from nnunetv2_tpmamba.trained.checkpoints import load_without_code

SLOW_WRITER = """
import sys, time
from pathlib import Path
from nnunetv2_tpmamba.files import whole_or_absent
with whole_or_absent(Path(sys.argv[1])) as unfinished:
    unfinished.write_bytes(b"half")
    print("writing", flush=True)
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


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestLoadWithoutCode:
    def test_reads_what_nnunet_writes(self, tmp_path):
        import numpy as np

        checkpoint = {
            "network_weights": {"a": torch.ones(2)},
            "_best_ema": np.float32(0.5),
            "logging": {"epoch_end_timestamps": [time.time()], "mean_fg_dice": [np.float64(0.25)]},
            "init_args": {"device": torch.device("cpu"), "configuration": "3d_fullres"},
        }
        torch.save(checkpoint, tmp_path / "checkpoint.pth")
        loaded = load_without_code(tmp_path / "checkpoint.pth")
        assert loaded["_best_ema"] == 0.5
        assert loaded["network_weights"]["a"].tolist() == [1, 1]
        assert loaded["init_args"] == checkpoint["init_args"]

    @pytest.mark.parametrize("names", [("numpy._core.", "numpy.core."), ("numpy.core.", "numpy._core.")])
    def test_reads_what_another_numpy_pickled(self, tmp_path, names):
        import numpy as np

        torch.save({"network_weights": {}, "_best_ema": np.float64(0.5)}, tmp_path / "here.pth")
        with zipfile.ZipFile(tmp_path / "here.pth") as here, zipfile.ZipFile(tmp_path / "there.pth", "w") as there:
            for name in here.namelist():
                there.writestr(name, here.read(name).replace(*(part.encode() for part in names)))
        assert load_without_code(tmp_path / "there.pth")["_best_ema"] == 0.5

    def test_refuses_code(self, tmp_path):
        torch.save({"network_weights": {}, "x": Malicious(tmp_path / "ran")}, tmp_path / "checkpoint.pth")
        with pytest.raises(ValueError, match=r"checkpoint\.pth cannot be read .* holds more than tensors"):
            load_without_code(tmp_path / "checkpoint.pth")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 a damaged one"])
    def test_names_a_damaged_file(self, tmp_path, content):
        path = tmp_path / "checkpoint.pth"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pth cannot be read as a checkpoint of nnU-Net"):
            load_without_code(path)

    def test_names_a_file_without_weights(self, tmp_path):
        torch.save([1], tmp_path / "checkpoint.pth")
        with pytest.raises(ValueError, match="no checkpoint of nnU-Net"):
            load_without_code(tmp_path / "checkpoint.pth")
