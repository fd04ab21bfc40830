"""The rows of table 1 without SAM, and what the testbed asks of any row."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.tiny_trainer import batch
from torch import nn

from nnunetv2_tpmamba.config import Testbed
from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet
from nnunetv2_tpmamba.trainers.baselines import nnUNetTrainerTestbed_nnUNet
from nnunetv2_tpmamba.trainers.catalogue import rows, trainers
from nnunetv2_tpmamba.trainers.testbed import nnUNetTrainerTestbed

SMALL = Testbed(patch_size=(8, 16, 16), num_epochs=1, num_iterations_per_epoch=1, num_val_iterations_per_epoch=1)


class nnUNetTrainerTestbed_nnUNet_small(nnUNetTrainerTestbed_nnUNet):
    testbed = SMALL


class nnUNetTrainerTestbed_line(nnUNetTrainerTestbed):
    """The least a row can be: a docstring and one function."""

    testbed = SMALL

    @classmethod
    def build_network(cls, input_channels, num_classes, patch_size):
        return nn.Conv3d(input_channels, num_classes, 1)


def architecture_of(made):
    return made.plans_manager.plans["configurations"]["3d_fullres"]["architecture"]


def test_nnunets_network_is_the_one_planned_for_the_papers_patch():
    with torch.device("meta"):
        network = nnUNetTrainerTestbed_nnUNet.build_network(1, 14, Testbed.patch_size)
        outputs = network(torch.empty(1, 1, 96, 96, 96))
    assert sum(p.numel() for p in network.parameters()) == 16_553_400
    assert [x.shape[2] for x in outputs] == [96, 48, 24, 12]


def test_the_topology_stands_in_the_derived_plans(make):
    made = make(nnUNetTrainerTestbed_nnUNet_small, initialized=False)
    architecture = architecture_of(made)
    assert architecture == plan_unet((8, 16, 16))
    assert json.loads(json.dumps(architecture)) == architecture
    assert made.preprocessed_dataset_folder.endswith("nnUNetPlans_3d_fullres_tpmamba")  # shared with every row


def test_prediction_builds_what_the_plans_say_and_not_what_would_be_planned_now(make):
    made = make(nnUNetTrainerTestbed_nnUNet_small)
    plans = deepcopy(made.plans_manager.plans)
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"][0] = 8

    def built(plans):
        manager = PlansManager(plans)
        return nnUNetTrainerTestbed_nnUNet_small.build_network_architecture(
            manager, manager.get_configuration("3d_fullres"), 1, 3, enable_deep_supervision=False
        )

    same, other = built(made.plans_manager.plans), built(plans)
    same.load_state_dict(made.network.state_dict())  # strict: every head is built in any case
    assert isinstance(same(batch()["data"]), torch.Tensor)
    assert other.encoder.stages[0][0].convs[0].conv.out_channels == 8


def test_deep_supervision_is_toggled_for_training_and_validation(make):
    made = make(nnUNetTrainerTestbed_nnUNet_small)
    scales = made._get_deep_supervision_scales()
    data = batch()["data"]
    outputs = made.network(data)
    assert [tuple(x.shape[2:]) for x in outputs] == [
        tuple(round(side * scale) for side, scale in zip((8, 16, 16), of, strict=True)) for of in scales
    ]
    made.set_deep_supervision_enabled(False)
    assert made.network(data).shape == (1, 3, 8, 16, 16)
    made.set_deep_supervision_enabled(True)
    assert len(made.network(data)) == len(scales)


@pytest.mark.parametrize("cls", [nnUNetTrainerTestbed_nnUNet_small, nnUNetTrainerTestbed_line])
def test_a_row_trains_and_leaves_what_prediction_needs(make, cls):
    made = make(cls, initialized=False)
    made.run_training()
    checkpoint = torch.load(f"{made.output_folder}/checkpoint_final.pth", weights_only=False)
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
    manager = PlansManager(json.loads(Path(made.output_folder_base, "plans.json").read_text()))
    network = cls.build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 3)
    network.load_state_dict(checkpoint["network_weights"])


def test_all_that_trains_is_decayed_unless_it_is_a_vector(make):
    made = make(nnUNetTrainerTestbed_line)
    assert [[p.ndim for p in group["params"]] for group in made.optimizer.param_groups] == [[5], [1]]


def test_a_trainer_without_a_network_says_what_it_needs(make):
    class nnUNetTrainerTestbed_empty(nnUNetTrainerTestbed):
        testbed = SMALL

    with pytest.raises(ValueError, match=r"nnUNetTrainerTestbed_empty has no network; give it .*build_network\("):
        make(nnUNetTrainerTestbed_empty, initialized=False)


def test_a_patch_that_the_network_cannot_take_is_refused_before_anything_is_made(make):
    class nnUNetTrainerTestbed_picky(nnUNetTrainerTestbed_line):
        @classmethod
        def check_patch_size(cls, patch_size):
            raise ValueError(f"patch size {patch_size}: use (64, 64, 64)")

    with pytest.raises(ValueError, match=r"patch size \(8, 16, 16\): use \(64, 64, 64\)"):
        make(nnUNetTrainerTestbed_picky, initialized=False)


@pytest.mark.parametrize("name", [name for name, cls in trainers().items() if "MONAI" in cls.needs])
def test_a_row_is_refused_at_once_where_monai_is_too_old(make, monkeypatch, name):
    monkeypatch.setattr("nnunetv2_tpmamba.networks.baselines.monai.version", lambda name: "1.4.0")
    with pytest.raises(ImportError, match=r"needs MONAI 1.5 or newer, but MONAI 1.4.0 is installed: pip install"):
        make(trainers()[name], initialized=False)


def test_rows_of_other_networks_work_without_monai(make, monkeypatch):
    monkeypatch.setattr("nnunetv2_tpmamba.networks.baselines.monai.version", lambda name: "1.4.0")
    make(nnUNetTrainerTestbed_nnUNet_small, initialized=False)


@pytest.mark.parametrize("name", rows())
def test_every_row_has_the_papers_numbers_and_the_testbeds_methods(name):
    """Optimiser, schedule, loss, sampling and augmentation; MedNeXt alone weighs the scales of its loss as its own."""
    row, testbed = rows()[name], nnUNetTrainerTestbed
    assert row.testbed == testbed.testbed == Testbed()
    methods = {"_build_loss"} if "MedNeXt" not in name else set()
    methods |= {"configure_optimizers", "get_training_transforms", "_set_batch_size_and_oversample", "preprocess"}
    assert [method for method in methods if getattr(row, method) is not getattr(testbed, method)] == []
