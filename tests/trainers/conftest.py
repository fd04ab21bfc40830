"""A tiny data set planned by nnU-Net, and trainers for it in this process."""

import json

import pytest
import torch
from support.configs import TINY
from support.nnunet import NnUNet
from support.raw_datasets import write_raw_dataset
from support.tiny_trainer import NAME, nnUNetTrainerTPMamba_tiny

from nnunetv2_tpmamba import TPMamba


@pytest.fixture(scope="session")
def planned(tmp_path_factory):
    nnunet = NnUNet(tmp_path_factory.mktemp("nnunet"))
    write_raw_dataset(nnunet.raw / NAME, [f"case{i}" for i in range(5)])
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 901, "-c", "3d_fullres", "-np", 1, "-npfp", 1)
    return nnunet


@pytest.fixture
def make(planned, monkeypatch, tmp_path, tmp_path_factory):
    """Make a trainer for the tiny data set, with SAM weights of its own size."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(variable, planned.environment[variable])
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # batches are made in this process
    sam = TPMamba(1, 2, TINY).sam_weights()
    file = tmp_path_factory.mktemp("sam") / "sam.pth"
    torch.save(sam, file)
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(file))
    folder = planned.preprocessed / NAME

    def make(cls=nnUNetTrainerTPMamba_tiny, fold=0, initialized=True):
        plans = json.loads((folder / "nnUNetPlans.json").read_text())
        plans["continue_training"] = False
        dataset_json = json.loads((folder / "dataset.json").read_text())
        made = cls(plans, "3d_fullres", fold, dataset_json, torch.device("cpu"))
        if initialized:
            made.initialize()
        return made

    make.sam, make.file = sam, file
    return make
