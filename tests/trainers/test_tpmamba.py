"""The paper's trainer and its variants: what is optimised, and what each changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_trainer import batch, changed_since, nnUNetTrainerTPMamba_tiny, state

from nnunetv2_tpmamba.config import Testbed, TPMambaConfig
from nnunetv2_tpmamba.trainers import tpmamba
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba


def test_one_step_changes_exactly_what_trains(make):
    made = make()
    with torch.no_grad():
        for parameter in made.network.parameters():
            if parameter.requires_grad and torch.all(parameter == 0):
                parameter.normal_(std=0.02)  # as after a first step: behind a zero layer nothing moves
    before = state(made.network)
    loss = made.train_step(batch())["loss"]
    assert np.isfinite(loss)
    assert changed_since(before, made.network) == {
        name for name, p in made.network.named_parameters() if p.requires_grad
    }


def test_optimizer_holds_exactly_what_trains(make):
    made = make()
    names = {id(p): name for name, p in made.network.named_parameters()}
    decayed, undecayed = ({names[id(p)] for p in group["params"]} for group in made.optimizer.param_groups)
    assert decayed | undecayed == {name for name, p in made.network.named_parameters() if p.requires_grad}
    assert [g["weight_decay"] for g in made.optimizer.param_groups] == [1e-2, 0.0]
    for name, parameter in made.network.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim == 1 or name.endswith("A_log")
            assert (name in undecayed) == spared, name


@pytest.mark.parametrize(
    ("variant", "differs"),
    [
        ("grid6", {"in_plane_upsample": 1}),
        ("scratch", {"pretrained": False}),
        ("1epoch", {"num_epochs": 1}),
        ("5epochs", {"num_epochs": 5}),
        ("10epochs", {"num_epochs": 10}),
        ("20epochs", {"num_epochs": 20}),
        ("50epochs", {"num_epochs": 50}),
        ("100epochs", {"num_epochs": 100}),
        ("250epochs", {"num_epochs": 250}),
        ("500epochs", {"num_epochs": 500}),
    ],
)
def test_variants_differ_by_what_their_name_says(variant, differs):
    cls = getattr(tpmamba, f"nnUNetTrainerTPMamba_{variant}")
    of_network = {name: value for name, value in differs.items() if hasattr(TPMambaConfig, name)}
    of_testbed = {name: value for name, value in differs.items() if hasattr(Testbed, name)}
    assert cls.config == replace(nnUNetTrainerTPMamba.config, **of_network)
    assert cls.testbed == replace(nnUNetTrainerTPMamba.testbed, **of_testbed)
    assert of_network | of_testbed == differs


def test_small_keeps_the_data_and_the_training():
    small, full = tpmamba.nnUNetTrainerTPMamba_small.config, nnUNetTrainerTPMamba.config
    encoder = {"embed_dim", "depth", "num_heads", "window_size", "encoder_image_size", "pretrained"}
    assert {name for name in vars(full) if getattr(small, name) != getattr(full, name)} == encoder
    assert tpmamba.nnUNetTrainerTPMamba_small.testbed == nnUNetTrainerTPMamba.testbed


def test_demo_epochs_can_be_set(make, monkeypatch):
    monkeypatch.setenv("TPMAMBA_DEMO_EPOCHS", "7")
    assert make(tpmamba.nnUNetTrainerTPMamba_demo, initialized=False).num_epochs == 7


@pytest.mark.parametrize(
    ("variable", "value"),
    [*(("TPMAMBA_DEMO_EPOCHS", value) for value in ("0", "-3", "many", "")), ("TPMAMBA_DEMO_SEED", "-1")],
)
def test_bad_numbers_for_the_demo_are_refused(make, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} is '{value}'; set it to a whole number"):
        make(tpmamba.nnUNetTrainerTPMamba_demo, initialized=False)


def test_the_demo_says_how_long_it_still_takes(make):
    made = make(tpmamba.nnUNetTrainerTPMamba_demo, initialized=False)
    for epoch, (began, ended) in enumerate([(0, 50), (50, 62)]):
        made.logger.log("epoch_start_timestamps", began, epoch)
        made.logger.log("epoch_end_timestamps", ended, epoch)
    made.current_epoch = 2
    assert made.seconds_left() == 12 * (made.num_epochs - 2)


def test_of_one_seed_the_demo_starts_from_the_same_weights(make, monkeypatch):
    def weights(seed):
        monkeypatch.setenv("TPMAMBA_DEMO_SEED", seed)
        return torch.cat([p.flatten() for p in make(tpmamba.nnUNetTrainerTPMamba_demo).network.parameters()])

    assert weights("1").equal(weights("1"))
    assert not weights("1").equal(weights("2"))


def test_a_patch_that_tokens_do_not_fill_is_refused_before_anything_is_made(make):
    class Odd(nnUNetTrainerTPMamba_tiny):
        testbed = replace(nnUNetTrainerTPMamba_tiny.testbed, patch_size=(8, 20, 16))

    with pytest.raises(ValueError, match=r"patch size \(8, 20, 16\): H and W must be multiples of 8"):
        make(Odd, initialized=False)
