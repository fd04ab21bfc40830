"""A machine on which training can start, and the verb ``doctor`` on it."""

import pytest
import torch
from support.nnunet import PLUGIN
from support.sam_files import write_meta_checkpoint

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.doctor import speed


@pytest.fixture(autouse=True)
def quick(request, monkeypatch, tiny_config):
    """Time a tiny network, except where the test is about the time."""
    if "speed" not in request.node.name:
        monkeypatch.setattr(speed, "CONFIG", tiny_config)


@pytest.fixture(scope="session")
def sam_file(tmp_path_factory):
    path = write_meta_checkpoint(tmp_path_factory.mktemp("sam") / "sam.pth")
    yield path
    path.unlink()  # 375 MB, and pytest keeps the folders of three runs


@pytest.fixture
def healthy(nnunet, sam_file, tmp_path, monkeypatch):
    """An environment in which training can start, without a network and with empty caches."""
    variables = {
        **{name: value for name, value in nnunet.environment.items() if name.startswith("nnUNet_")},
        "nnUNet_extTrainer": str(PLUGIN),
        "TPMAMBA_SAM_CHECKPOINT": str(sam_file),
        "TORCH_HOME": str(tmp_path / "torch"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))  # read at import
    return nnunet


@pytest.fixture
def doctor(healthy, capsys):
    def run():
        status = cli.main(["doctor"])
        output = capsys.readouterr()
        assert output.err == ""
        return status, output.out

    return run
