"""Checkpoint files are read without running code."""

import time
import zipfile
from pathlib import Path

import pytest
import torch

from nnunetv2_tpmamba.trained.checkpoints import load_without_code


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
