"""Rows with their authors' optimiser: its kind, its numbers, and that nothing else differs from the row."""

from dataclasses import replace

import pytest
import torch

from nnunetv2_tpmamba.trainers import originals
from nnunetv2_tpmamba.trainers.catalogue import trainers
from nnunetv2_tpmamba.trainers.originals import (
    nnUNetTrainerTestbed_MedNeXt_original,
    nnUNetTrainerTestbed_nnUNet_original,
    nnUNetTrainerTestbed_SwinUNETR_original,
    nnUNetTrainerTestbed_UNETR_original,
)

ORIGINALS = {name: cls for name, cls in trainers().items() if cls.__module__ == originals.__name__}
SGD = {"lr": 1e-2, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}


class nnUNetTrainerTestbed_nnUNet_original_small(nnUNetTrainerTestbed_nnUNet_original):
    testbed = replace(nnUNetTrainerTestbed_nnUNet_original.testbed, patch_size=(8, 16, 16), num_epochs=10)


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_original_is_its_row_with_another_optimiser(name):
    original, row = ORIGINALS[name], trainers()[name.removesuffix("_original")]
    assert issubclass(original, row)
    numbers = original.testbed
    assert replace(numbers, initial_lr=2e-4, weight_decay=1e-2) == row.testbed
    assert numbers != row.testbed


@pytest.fixture
def optimized(make):
    """Make an original's optimiser and schedule for a network of three parameters, one of them frozen."""

    def optimized(cls):
        made = make(cls, initialized=False)
        made.network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False))
        made.network[1].weight.requires_grad_(False)
        return made.configure_optimizers()

    return optimized


def rates(optimizer, schedule, epochs):
    seen = []
    for epoch in epochs:
        schedule.step(epoch)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("cls", [nnUNetTrainerTestbed_UNETR_original, nnUNetTrainerTestbed_SwinUNETR_original])
def test_unetrs_learning_rate_warms_up_for_50_epochs_and_falls_by_a_cosine(optimized, cls):
    optimizer, schedule = optimized(cls)
    assert type(optimizer) is torch.optim.AdamW
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], [tuple(p.shape) for p in group["params"]]) == (1e-5, [(2, 2), (2,)])
    expected = [0, 5e-5, 1e-4, 5e-5, 0]
    assert rates(optimizer, schedule, [0, 25, 50, 525, 999]) == pytest.approx(expected, abs=1e-9)
    assert rates(optimizer, schedule, [25]) == pytest.approx([5e-5])  # by the epoch alone, as --c needs it


def test_mednexts_optimiser_has_its_authors_numbers(optimized):
    optimizer, schedule = optimized(nnUNetTrainerTestbed_MedNeXt_original)
    assert type(optimizer) is torch.optim.AdamW
    (group,) = optimizer.param_groups
    assert (group["eps"], group["weight_decay"]) == (1e-4, 3e-5)
    assert rates(optimizer, schedule, [0, 500]) == pytest.approx([1e-3, 1e-3 * 0.5**0.9])


@pytest.fixture
def made(make):
    return make(nnUNetTrainerTestbed_nnUNet_original_small)


def test_nnunets_optimiser_is_stock(made):
    assert type(made.optimizer) is torch.optim.SGD
    (group,) = made.optimizer.param_groups
    assert {name: group[name] for name in SGD} == SGD
    assert {id(p) for p in group["params"]} == {id(p) for p in made.network.parameters()}


def test_its_learning_rate_falls_by_the_poly_schedule(made):
    seen = []
    for epoch in range(10):
        made.lr_scheduler.step(epoch)
        seen.append(made.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([1e-2 * (1 - epoch / 10) ** 0.9 for epoch in range(10)])


def test_a_continued_training_keeps_it(made, make, tmp_path):
    for p in made.network.parameters():
        p.grad = torch.ones_like(p)
    made.optimizer.step()
    made.current_epoch = 3
    made.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    continued = make(nnUNetTrainerTestbed_nnUNet_original_small, initialized=False)
    continued.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    assert type(continued.optimizer) is torch.optim.SGD
    (before,), (after,) = made.optimizer.param_groups, continued.optimizer.param_groups
    assert {name: after[name] for name in SGD} == {name: before[name] for name in SGD}
    momenta = [
        [optimizer.state[p]["momentum_buffer"] for p in group["params"]]
        for optimizer, group in ((made.optimizer, before), (continued.optimizer, after))
    ]
    assert all(torch.equal(saved, loaded) for saved, loaded in zip(*momenta, strict=True))
