"""What several test files share: the real data, small configurations, and nnU-Net in subprocesses."""

import os
from pathlib import Path

# idle threads that spin make a busy machine a hundred times slower; libgomp reads this when torch loads it, below
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import timm
import torch
from support.configs import TINY
from support.nnunet import REPOSITORY, NnUNet

DATA = Path(os.environ.get("TPMAMBA_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture
def tiny_config():
    return TINY


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
    """Every tensor of Meta's layout in its shape, each stored as the one number that it repeats."""
    shapes = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0).state_dict()
    encoder = {
        f"image_encoder.{name.replace('.mlp.fc', '.mlp.lin')}": torch.full((1,), 0.5).expand(tensor.shape)
        for name, tensor in shapes.items()
    }
    return encoder | {"prompt_encoder.no_mask_embed.weight": torch.zeros(1, 256)}


@pytest.fixture
def tiny_checkpoint(tiny_state, tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(tiny_state, path)
    return path
