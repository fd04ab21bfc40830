"""SAMed's and MA-SAM's rows of table 1: what they are, what trains, and that memory is counted for them too."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.configs import TINY
from support.tiny_trainer import batch, changed_since, nnUNetTrainerTPMamba_tiny, state

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.trainers import sam
from nnunetv2_tpmamba.trainers.ablations import nnUNetTrainerTPMamba_lora
from nnunetv2_tpmamba.trainers.sam_rows import nnUNetTrainerTestbed_MASAM, nnUNetTrainerTestbed_SAMed
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba


class nnUNetTrainerTestbed_SAMed_tiny(nnUNetTrainerTestbed_SAMed):
    config = replace(TINY, adapter="none")
    testbed = nnUNetTrainerTPMamba_tiny.testbed


class nnUNetTrainerTestbed_MASAM_tiny(nnUNetTrainerTestbed_MASAM):
    config = replace(TINY, adapter="convolution")
    testbed = nnUNetTrainerTPMamba_tiny.testbed


both = pytest.mark.parametrize("cls", [nnUNetTrainerTestbed_SAMed_tiny, nnUNetTrainerTestbed_MASAM_tiny])


def test_rows_differ_from_tpmamba_in_nothing_but_the_adapters():
    config = nnUNetTrainerTPMamba.config
    assert nnUNetTrainerTestbed_SAMed.config == nnUNetTrainerTPMamba_lora.config == replace(config, adapter="none")
    assert nnUNetTrainerTestbed_MASAM.config == replace(config, adapter="convolution", adapter_dim=384)
    assert nnUNetTrainerTestbed_SAMed.testbed == nnUNetTrainerTestbed_MASAM.testbed == nnUNetTrainerTPMamba.testbed


def test_samed_is_tpmamba_without_adapters_bit_for_bit(make):
    torch.manual_seed(0)
    made = make(nnUNetTrainerTestbed_SAMed_tiny)
    torch.manual_seed(0)
    network = TPMamba(1, 3, replace(TINY, adapter="none"))
    network.load_sam(make.sam)
    weights = made.network.state_dict()
    assert all(torch.equal(weights.pop(name), x) for name, x in network.state_dict().items())
    assert not weights
    assert torch.equal(made.network(batch()["data"]), network(batch()["data"]))


@both
def test_two_steps_change_exactly_what_trains(make, cls):
    made = make(cls)
    before = state(made.network)
    for _ in range(2):  # behind a layer that starts at zero nothing moves in the first
        assert np.isfinite(made.train_step(batch())["loss"])
    trained = {name for name, p in made.network.named_parameters() if p.requires_grad}
    assert changed_since(before, made.network) == trained
    assert {name for name in before if not name.startswith("encoder.") or ".lora_" in name} == trained


@both
@pytest.mark.parametrize(("free", "on"), [(2**40, False), (1, True)])
def test_blocks_are_recomputed_where_memory_is_short(make, monkeypatch, cls, free, on):
    made = make(cls)
    monkeypatch.setattr(sam, "free_bytes", lambda device: free)
    made.on_train_start()
    assert made.bare_network().checkpointing == on
    log = Path(made.log_file).read_text()
    assert re.search(f"Activation checkpointing: {'on' if on else 'off'}; a training step needs about", log)
    assert np.isfinite(made.train_step(batch())["loss"])
