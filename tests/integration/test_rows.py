"""nnU-Net's own network on the testbed, beside stock nnU-Net, by the real commands on real CTs."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.images import assert_same_geometry, read_array
from support.nnunet import model_folder, train_command

from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
NAME = "Dataset702_HeadNeckCrop"
ROW, STOCK = "nnUNetTrainerTestbed_nnUNet_short", "nnUNetTrainer_short"


@pytest.fixture(scope="module")
def planned(real_data, module_nnunet):
    nnunet = module_nnunet
    (nnunet.raw / NAME).symlink_to(real_data / NAME)
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 702, "-c", "3d_fullres", "-np", 2, "-npfp", 2)
    folder = nnunet.preprocessed / NAME
    cases = sorted(path.name[:7] for path in (folder / "gt_segmentations").iterdir())
    (folder / "splits_final.json").write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}]))
    return nnunet


@pytest.fixture(scope="module")
def trained(planned):
    """The row, stopped after an epoch and continued, and the stock baseline."""
    log = planned.results.with_name("stopped.log")
    stopped = planned.start(log, *train_command(NAME, ROW), STOP_AFTER_AN_EPOCH="1", nnUNet_def_n_proc="2")
    status = stopped.wait(timeout=1500)
    os.killpg(stopped.pid, signal.SIGKILL)  # nnU-Net's workers, which outlive it
    assert status == 3, log.read_text()[-4000:]
    planned.train(NAME, ROW, "--c", timeout=1500)
    planned.train(NAME, STOCK, timeout=1500)
    return planned


def fold_of(nnunet, trainer):
    return model_folder(nnunet.results, NAME, trainer) / "fold_0"


def test_it_continued_to_its_last_epoch(trained):
    checkpoint = torch.load(fold_of(trained, ROW) / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert len(checkpoint["logging"]["train_losses"]) == 2
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()


def test_its_plans_hold_the_testbed_and_the_topology(trained):
    settings, stock = (
        json.loads((fold_of(trained, trainer).parent / "plans.json").read_text())["configurations"]["3d_fullres"]
        for trainer in (ROW, STOCK)
    )
    assert (settings["spacing"], settings["patch_size"]) == ([1.0, 1.0, 1.0], [96, 96, 96])
    assert settings["architecture"] == plan_unet((96, 96, 96))
    assert settings["architecture"]["arch_kwargs"]["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 4]
    assert stock["architecture"] != settings["architecture"]
    assert (trained.preprocessed / NAME / settings["data_identifier"]).name == "nnUNetPlans_3d_fullres_tpmamba"


def test_its_checkpoint_has_every_head(trained):
    weights = torch.load(fold_of(trained, ROW) / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert len({name for name in weights if "seg_layers" in name and name.endswith("weight")}) == 4


def test_both_validated_the_same_case(trained):
    cases = []
    for trainer in (ROW, STOCK):
        summary = json.loads((fold_of(trained, trainer) / "validation" / "summary.json").read_text())
        cases.append([Path(case["prediction_file"]).name for case in summary["metric_per_case"]])
    assert len(cases[0]) == 1
    assert cases[0] == cases[1]


def test_it_validates_again_with_val(trained):
    summary = fold_of(trained, ROW) / "validation" / "summary.json"
    before = json.loads(summary.read_text())["foreground_mean"]
    summary.unlink()
    started = time.time()
    trained.train(NAME, ROW, "--val", timeout=900)
    assert summary.stat().st_mtime >= started - 1
    assert json.loads(summary.read_text())["foreground_mean"] == before


def test_predictions_have_each_inputs_geometry_and_labels(trained, real_data, tmp_path):
    images = real_data / NAME / "imagesTs"
    for trainer in (ROW, STOCK):
        predicted = trained.predict(NAME, trainer, images, tmp_path / trainer, "--disable_tta", timeout=900)
        files = sorted(predicted.glob("*.nii.gz"))
        assert len(files) == 6
        for path in files:
            assert_same_geometry(path, images / path.name.replace(".nii.gz", "_0000.nii.gz"))
            assert set(np.unique(read_array(path))) <= {0, 1, 2, 3}


def test_they_are_compared(trained, tmp_path):
    out = tmp_path / "report"
    trained.run("nnUNetv2_tpmamba", "compare", "-d", 702, "-tr", STOCK, ROW, "-o", out, "-np", 1)
    cost = json.loads((out / "summary.json").read_text())["cost"]
    untrained = cost[ROW]["0"]["parameters"] - cost[ROW]["0"]["trained_parameters"]
    assert untrained == 256 * 4 + 4  # the coarsest head, which nnU-Net's loss gives no weight


def test_its_export_is_refused_by_name(trained, tmp_path):
    result = trained.run(
        "nnUNetv2_tpmamba", "export", "-d", 702, "-tr", ROW, "-o", tmp_path / "model.safetensors", check=False
    )
    assert result.returncode == 1
    assert f"{ROW} is no trainer of a network with SAM" in result.stderr
    assert "nnUNetv2_export_model_to_zip" in result.stderr
