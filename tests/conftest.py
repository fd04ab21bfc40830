"""What several test files share: the real data, small configurations, and nnU-Net in subprocesses."""

import os
from pathlib import Path

# idle threads that spin make a busy machine a hundred times slower; libgomp reads this when torch loads it, below
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from support.configs import TINY
from support.nnunet import REPOSITORY, NnUNet
from support.sam_files import stand_in

from nnunetv2_tpmamba.networks import precision
from nnunetv2_tpmamba.networks.sam.models import VIT_B

DATA = Path(os.environ.get("TPMAMBA_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture
def tiny_config():
    return TINY


@pytest.fixture
def in_float32(monkeypatch):
    """Let networks predict in float32 also where the processor has bfloat16, for tests of the last digits."""
    monkeypatch.setenv(precision.VARIABLE, "float32")


@pytest.fixture(scope="session")
def real_data():
    """The folder with the real CTs, which is no part of this repository."""
    if not DATA.is_dir():
        pytest.skip(f"needs the real CTs in {DATA}; set TPMAMBA_TEST_DATA to another folder that holds them")
    return DATA


@pytest.fixture
def nnunet(tmp_path):
    return NnUNet(tmp_path)


@pytest.fixture(scope="module")
def module_nnunet(tmp_path_factory):
    return NnUNet(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="session")
def tiny_state():
    """SAM ViT-B in Meta's layout, in a few kB."""
    return stand_in(VIT_B)


@pytest.fixture
def tiny_checkpoint(tiny_state, tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(tiny_state, path)
    return path
