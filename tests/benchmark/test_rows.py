"""The benchmark's part ``rows``: what is counted of a trainer, and that each row is measured, or fails, alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.benchmark import PARTS_BY_DEFAULT, measure, rows
from nnunetv2_tpmamba.benchmark.catalogue import tasks_of
from nnunetv2_tpmamba.benchmark.setting import Setting
from nnunetv2_tpmamba.trainers import catalogue
from nnunetv2_tpmamba.trainers.baselines import nnUNetTrainerTestbed_nnUNet
from nnunetv2_tpmamba.trainers.testbed import nnUNetTrainerTestbed
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

CPU = torch.device("cpu")
ROW, OURS = "nnUNetTrainerTestbed_nnUNet", "nnUNetTrainerTPMamba"


def measured(*names):
    tasks = tasks_of(["rows"], Setting.of(CPU, small=True, rows=names))
    return [result for each in tasks for result in measure.run_task(each, CPU, repeats=1)]


class nnUNetTrainerTestbed_linear(nnUNetTrainerTestbed):
    """A network of one layer with a batch norm, whose costs are plain arithmetic."""

    testbed = replace(nnUNetTrainerTestbed.testbed, patch_size=(64, 64, 64))

    @classmethod
    def build_network(cls, input_channels, num_classes, patch_size):
        return nn.Sequential(nn.Conv3d(input_channels, num_classes, 1), nn.BatchNorm3d(num_classes))


def test_counts_are_those_of_the_network():
    counts = rows.count(nnUNetTrainerTestbed_linear)
    voxels = 64**3
    assert counts.parameters == counts.trained == 2 * 14 + 2 * 14
    assert counts.flops == 2 * 14 * voxels
    # fp16 outputs of both layers, and the float32 logits with their softmax and gradients
    assert 2 * 14 * voxels * 2 < counts.step_bytes < 14 * voxels * 30


def test_every_output_counts_as_in_training():
    with torch.device("meta"):
        network = nnUNetTrainerTestbed_nnUNet.build_network(1, 14, (96, 96, 96))
    finest = []
    for enabled in (True, False):
        nnUNetTrainerTestbed_nnUNet.toggle_deep_supervision(network, enabled)
        finest.append(rows.forward_flops(network, (1, 1, 96, 96, 96)))
    assert rows.count(nnUNetTrainerTestbed_nnUNet).flops == finest[0] > finest[1]
    assert finest[0] / 2e9 == pytest.approx(199.8, abs=0.05)


@pytest.mark.parametrize("name", [ROW, OURS])
def test_a_row_is_counted_and_takes_a_step(name):
    forward, step = measured(name)
    assert (forward.task, forward.name, step.name) == (name, rows.FORWARD, rows.STEP)
    assert not forward.error + step.error
    assert forward.flops > 0
    assert step.seconds > 0
    assert step.counted_bytes > 0
    assert step.parameters >= step.trainable > 0


@pytest.mark.parametrize("name", catalogue.rows())
def test_every_row_has_a_small_size(name):
    trainer = catalogue.rows()[name]
    small = rows.shrunk(trainer)
    assert max(small.testbed.patch_size) <= 64
    small.check_patch_size(small.testbed.patch_size)
    assert small.__name__ == name


def test_the_tables_rows_are_measured_unless_others_are_named():
    assert [task.title for task in tasks_of(["rows"], Setting.of(CPU))] == list(catalogue.rows())
    named = Setting.of(CPU, rows=["nnUNetTrainerTPMamba_small", ROW])
    assert [task.title for task in tasks_of(["rows"], named)] == list(named.rows)
    assert "rows" not in PARTS_BY_DEFAULT


def test_all_measures_each_network_once():
    """Trainers that differ in epochs or optimiser only are left to the one whose network and step they share."""
    every = [task.title for task in tasks_of(["rows"], Setting.of(CPU, rows=[rows.ALL]))]
    assert every[: len(catalogue.rows())] == list(catalogue.rows())
    more = {f"{OURS}_{what}" for what in ("grid6", "scratch", "small", "demo", "vitl", "vith", "imagenet")}
    assert set(every) - set(catalogue.rows()) == more
    same = catalogue.trainers().keys() - set(every)
    assert {name.rpartition("_")[2] for name in same} >= {"original", "1epoch", "500epochs"}
    assert all(name in rows.left_out() for name in more)
    assert f"{len(same)} more trainers have the network of one that is measured" in rows.left_out()


def test_a_row_whose_package_is_missing_fails_alone(monkeypatch):
    def missing():
        raise ImportError("this network is MONAI's, which is not installed: pip install monai")

    monkeypatch.setattr(catalogue.trainers()[f"{ROW}_original"], "check_installed", missing)
    failed, *others = measured(f"{ROW}_original", ROW)
    assert failed.error == "ImportError: this network is MONAI's, which is not installed: pip install monai"
    assert [result.error for result in others] == ["", ""]


def test_a_step_that_needs_more_memory_than_is_free_is_not_tried(monkeypatch):
    monkeypatch.setattr(rows, "free_bytes", lambda device: 10**6)
    _, step = measured(ROW)
    assert step.error == "RuntimeError: a training step needs about 0.1 GB, 0.0 GB are free"


def test_only_trainers_can_be_named(tmp_path, capsys):
    arguments = ["benchmark", "--small", "--device", "cpu", "--out", str(tmp_path), "-tr", "nnUNetTrainerX"]
    assert cli.main([*arguments, "--only", "rows"]) == 1
    assert (
        "-tr nnUNetTrainerX: there is no such trainer; nnUNetv2_tpmamba trainers lists them" in capsys.readouterr().err
    )
    assert cli.main(arguments) == 1
    assert "-tr names trainers for the part rows, which is not measured; add --only rows" in capsys.readouterr().err


def test_the_small_network_is_the_rows_own_but_for_sams_sizes():
    small = rows.shrunk(nnUNetTrainerTPMamba).config
    assert (small.embed_dim, small.adapter_dim) == (32, nnUNetTrainerTPMamba.config.adapter_dim)
