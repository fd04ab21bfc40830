"""What several test files share: the real data, small configurations, and nnU-Net in subprocesses."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import timm
import torch

from nnunetv2_tpmamba import TPMambaConfig
from nnunetv2_tpmamba.trainers import plugin

# idle threads that spin make a busy machine a hundred times slower; libgomp reads this when torch loads it
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

REPOSITORY = Path(__file__).parents[1]
PLUGIN = Path(plugin.__path__[0])  # of the installed package, which need not be this clone
DATA = Path(os.environ.get("TPMAMBA_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
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
    if not DATA.is_dir():
        pytest.skip(f"needs the real CTs in {DATA}; set TPMAMBA_TEST_DATA to another folder that holds them")
    return DATA


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


def write_raw_dataset(
    folder,
    cases,
    shape=(12, 24, 24),
    spacing=(1.0, 1.0, 1.0),
    channels=("CT",),
    seed=0,
    labels=("one", "two"),
    ending=".nii.gz",
):
    """A raw data set of noisy images, a blob per label; ``shape`` and ``spacing`` (mm) in the order (z, y, x)."""
    generator = np.random.default_rng(seed)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)

    def write(array, path):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(spacing[::-1])
        SimpleITK.WriteImage(image, path)

    for case in cases:
        label = np.zeros(shape, np.uint8)
        for value in range(1, len(labels) + 1):
            center = [int(generator.integers(size // 4, size - size // 4 + 1)) for size in shape]
            label[tuple(slice(max(c - 3, 0), c + 3) for c in center)] = value
        write(label, folder / "labelsTr" / f"{case}{ending}")
        for channel in range(len(channels)):
            image = generator.normal(0, 30, shape) + 80 * label - 100 * (label == 0)
            write(image.astype(np.int16), folder / "imagesTr" / f"{case}_{channel:04d}{ending}")
    description = {
        "channel_names": dict(enumerate(channels)),
        "labels": {"background": 0, **{name: value for value, name in enumerate(labels, 1)}},
        "numTraining": len(cases),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(description))


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
