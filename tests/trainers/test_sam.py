"""The trainers with SAM's encoder: when its file is asked for, and when its blocks are recomputed."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.sam_files import write_meta_checkpoint
from support.tiny_trainer import batch, changed_since, nnUNetTrainerTPMamba_tiny, state

from nnunetv2_tpmamba.files import sha256, sha256_of_tensors
from nnunetv2_tpmamba.networks.ops.implementations import LOOP, using
from nnunetv2_tpmamba.networks.sam import download
from nnunetv2_tpmamba.networks.sam.known import PUBLISHED, Published
from nnunetv2_tpmamba.trained.checkpoints import load_without_code
from nnunetv2_tpmamba.trainers import sam, testbed
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

causal_conv = importlib.import_module("nnunetv2_tpmamba.networks.ops.causal_conv")  # a function has this name, too


def test_sam_weights_are_loaded_for_a_new_training(make):
    network = make().bare_network()
    assert all(torch.equal(network.encoder.state_dict()[name], x) for name, x in make.sam.items())


def test_missing_sam_file_stops_before_anything_is_made(make, monkeypatch):
    def missing(model):
        raise FileNotFoundError("no SAM file")

    def forbidden(*args, **kwargs):
        raise AssertionError("preprocessing was started")

    monkeypatch.setattr(download, "find_sam_checkpoint", missing)
    monkeypatch.setattr(testbed, "ensure_preprocessed", forbidden)
    with pytest.raises(FileNotFoundError, match="no SAM file"):
        make()


def test_variants_from_scratch_ask_for_no_sam_file(make, monkeypatch):
    class Scratch(nnUNetTrainerTPMamba_tiny):
        config = replace(nnUNetTrainerTPMamba_tiny.config, pretrained=False)

    monkeypatch.setattr(download, "find_sam_checkpoint", lambda model: pytest.fail("it was asked for"))
    assert all(p.requires_grad for p in make(Scratch).network.parameters())


def encoder_said_by(made):
    """What the log says last of the encoder, and what a checkpoint says."""
    file = f"{made.output_folder}/checkpoint_latest.pth"
    made.save_checkpoint(file)
    logged = re.findall(r"Encoder: (.*\S)", Path(made.log_file).read_text())
    return logged[-1], load_without_code(Path(file))["init_args"]["encoder"]


def test_log_and_checkpoints_say_which_weights_the_encoder_has(make, monkeypatch):
    monkeypatch.setitem(PUBLISHED, sha256(make.file), Published("Some SAM", "CC-BY-4.0", ""))
    made = make()
    made.on_train_start()
    logged, saved = encoder_said_by(made)
    assert logged == "Some SAM, CC-BY-4.0"
    assert saved == {"name": "Some SAM", "licence": "CC-BY-4.0", "sha256": sha256_of_tensors(make.sam)}

    make.file.unlink()
    continued = make(initialized=False)
    continued.load_checkpoint(f"{made.output_folder}/checkpoint_latest.pth")
    continued.on_train_start()
    assert encoder_said_by(continued) == (logged, saved)


def test_weights_that_replaced_sams_are_not_called_sams(make):
    """As nnU-Net's -pretrained_weights does after the trainer is initialised."""
    made = make()
    with torch.no_grad():
        made.bare_network().encoder.pos_embed += 1
    made.on_train_start()
    digest = sha256_of_tensors(made.bare_network().sam_weights())
    assert digest != sha256_of_tensors(make.sam)
    assert encoder_said_by(made) == (
        f"unknown encoder, SHA-256 {digest}",
        {"name": "unknown encoder", "licence": "", "sha256": digest},
    )


def test_a_checkpoint_that_names_no_encoder_is_continued(make):
    """As those from before encoders were named."""
    made = make()
    file = f"{made.output_folder}/checkpoint_latest.pth"
    made.save_checkpoint(file)
    made.load_checkpoint(file)
    made.on_train_start()
    assert encoder_said_by(made)[0] == f"unknown encoder, SHA-256 {sha256_of_tensors(make.sam)}"


def test_the_log_says_what_computes_scan_and_convolution(make, monkeypatch):
    assert "Convolution before the scan" not in Path(make().log_file).read_text()
    monkeypatch.setattr(causal_conv, "why_not_numba", lambda: "no such kernel")
    with using(lambda chosen: LOOP._replace(note="numba not used: it is too old")):
        log = Path(make().log_file).read_text()
    assert "Selective scan: PyTorch loop (numba not used: it is too old)" in log
    assert "Convolution before the scan: PyTorch (numba not used: no such kernel)" in log


class nnUNetTrainerTPMamba_tiny_checkpointed(nnUNetTrainerTPMamba_tiny):
    config = replace(nnUNetTrainerTPMamba_tiny.config, checkpointing=True)


@pytest.mark.parametrize(
    ("cls", "free", "on", "why"),
    [
        (nnUNetTrainerTPMamba_tiny, 2**40, False, r"off; a training step needs about .* GB, 1099.5 GB are free"),
        (nnUNetTrainerTPMamba_tiny, 1, True, r"on; a training step needs about .* without and .* with it"),
        (nnUNetTrainerTPMamba_tiny, None, False, "off; the free memory is not known here"),
        (nnUNetTrainerTPMamba_tiny_checkpointed, 2**40, True, "on, as configured"),
    ],
)
def test_checkpointing_follows_the_free_memory_and_is_said_in_the_log(make, monkeypatch, cls, free, on, why):
    made = make(cls)
    before = made.network.state_dict().keys()
    monkeypatch.setattr(sam, "free_bytes", lambda device: free)
    made.on_train_start()
    assert made.bare_network().checkpointing == on
    assert re.search(f"Activation checkpointing: {why}", Path(made.log_file).read_text())
    assert made.network.state_dict().keys() == before
    assert np.isfinite(made.train_step(batch())["loss"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_full_size_step_on_a_real_ct(real_data, nnunet, tmp_path, monkeypatch):
    """One iteration of the paper's trainer on a 96 mm cube, from a Meta-layout SAM file of random weights."""
    name = "Dataset702_HeadNeckCrop"
    (nnunet.raw / name).symlink_to(real_data / name)
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 702, "-c", "3d_fullres", "--no_pp", "-npfp", 2)
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, nnunet.environment[variable])
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    sam = write_meta_checkpoint(tmp_path / "sam_vit_b.pth")
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(sam))

    folder = nnunet.preprocessed / name
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    made = nnUNetTrainerTPMamba(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    made.on_train_start()
    sam.unlink()
    with torch.no_grad():
        for parameter in made.network.parameters():
            if parameter.requires_grad and torch.all(parameter == 0):
                parameter.normal_(std=1e-3)  # as after a first step: behind a zero layer nothing moves
    before = state(made.network)
    patch = next(made.dataloader_train)
    assert patch["data"].shape == (1, 1, 96, 96, 96)
    loss = made.train_step(patch)["loss"]
    print(f"loss {loss}")
    assert np.isfinite(loss)
    assert changed_since(before, made.network) == {n for n, p in made.network.named_parameters() if p.requires_grad}
