"""What several test files share: the real data, small configurations, and nnU-Net in subprocesses."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nnunetv2_tpmamba import TPMambaConfig

REPOSITORY = Path(__file__).parents[1]
PLUGIN = REPOSITORY / "nnunetv2_tpmamba" / "plugin"
TRAINERS = Path(__file__).parent / "trainers"

TINY = replace(
    TPMambaConfig(),
    embed_dim=32,
    depth=4,
    num_heads=2,
    window_size=3,
    global_attn_indexes=(1, 3),
    encoder_image_size=96,
    lora_rank=4,
    adapter_dim=8,
    decoder_dim=8,
)
"""A network of the same build with every kind of part, for a fraction of a second on a CPU."""


@pytest.fixture
def tiny_config():
    return TINY


@pytest.fixture(scope="session")
def real_data():
    """The folder with the real CTs, which is no part of this repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real CTs in {folder}")
    return folder


class NnUNet:
    """nnU-Net's three folders in one temporary folder, and its commands run there in subprocesses."""

    def __init__(self, root):
        self.raw, self.preprocessed, self.results = (root / name for name in ("raw", "preprocessed", "results"))
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_extTrainer": os.pathsep.join([str(PLUGIN), str(TRAINERS)]),
            "nnUNet_n_proc_DA": "1",
            "nnUNet_def_n_proc": "1",
        }
        self.environment.pop("TPMAMBA_SAM_CHECKPOINT", None)

    def run(self, command, *arguments, check=True, timeout=540, **environment):
        """Run an installed console command; return the completed process, its output as text."""
        result = subprocess.run(
            [str(Path(sys.executable).with_name(command)), *map(str, arguments)],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode:
            pytest.fail(f"{command} exited with {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
        return result


@pytest.fixture
def nnunet(tmp_path):
    return NnUNet(tmp_path)


@pytest.fixture(scope="module")
def module_nnunet(tmp_path_factory):
    return NnUNet(tmp_path_factory.mktemp("nnunet"))
