"""Every row of table 1 on the testbed, beside stock nnU-Net, by the real commands on real CTs."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from support.images import assert_same_geometry, read_array
from support.nnunet import model_folder, train_command
from support.sam_files import write_meta_checkpoint
from support.trainers.short_trainers import OF_TABLE_1

from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
NAME = "Dataset702_HeadNeckCrop"
NNUNET, STOCK = "nnUNetTrainerTestbed_nnUNet_row", "nnUNetTrainer_short"


@pytest.fixture(scope="module")
def planned(real_data, module_nnunet, tmp_path_factory):
    """The data, planned once for all rows, and a SAM file of random weights."""
    nnunet = module_nnunet
    (nnunet.raw / NAME).symlink_to(real_data / NAME)
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 702, "-c", "3d_fullres", "-np", 2, "-npfp", 2)
    folder = nnunet.preprocessed / NAME
    cases = sorted(path.name[:7] for path in (folder / "gt_segmentations").iterdir())
    (folder / "splits_final.json").write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}]))
    sam = write_meta_checkpoint(tmp_path_factory.mktemp("sam") / "sam.pth")
    nnunet.environment["TPMAMBA_SAM_CHECKPOINT"] = str(sam)
    yield nnunet
    sam.unlink()
    shutil.rmtree(nnunet.results)  # many GB of checkpoints


@pytest.fixture(scope="module")
def image(real_data, tmp_path_factory):
    """A folder with one new CT."""
    folder = tmp_path_factory.mktemp("images")
    new = min((real_data / NAME / "imagesTs").iterdir())
    (folder / new.name).symlink_to(new)
    return folder / new.name


def fold_of(nnunet, trainer):
    return model_folder(nnunet.results, NAME, trainer) / "fold_0"


def is_trained(nnunet, trainer):
    return (fold_of(nnunet, trainer) / "validation" / "summary.json").is_file()


def train(nnunet, row):
    """Train a row, stop it after an epoch, and continue it; do nothing if an earlier test did."""
    if is_trained(nnunet, row):
        return
    log = nnunet.results.with_name(f"{row}.log")
    stopped = nnunet.start(log, *train_command(NAME, row), STOP_AFTER_AN_EPOCH="1", nnUNet_def_n_proc="2")
    status = stopped.wait(timeout=1500)
    os.killpg(stopped.pid, signal.SIGKILL)  # nnU-Net's workers, which outlive it
    assert status == 3, log.read_text()[-4000:]
    nnunet.train(NAME, row, "--c", timeout=1500)
    (fold_of(nnunet, row) / "checkpoint_best.pth").unlink()  # up to 1 GB a row


@pytest.fixture
def nnunets_row(planned):
    """The row of nnU-Net's own network, and stock nnU-Net."""
    train(planned, NNUNET)
    if not is_trained(planned, STOCK):
        planned.train(NAME, STOCK, timeout=1500)
    return planned


@pytest.mark.parametrize("row", OF_TABLE_1)
def test_a_row_trains_continues_and_predicts(planned, row, image, tmp_path):
    train(planned, row)
    checkpoint = torch.load(fold_of(planned, row) / "checkpoint_final.pth", weights_only=False, mmap=True)
    assert checkpoint["current_epoch"] == 2
    assert len(checkpoint["logging"]["train_losses"]) == 2
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
    assert np.isfinite(checkpoint["logging"]["val_losses"]).all()
    assert all(torch.isfinite(x).all() for x in checkpoint["network_weights"].values())
    settings = json.loads((fold_of(planned, row).parent / "plans.json").read_text())["configurations"]["3d_fullres"]
    assert settings["data_identifier"] == "nnUNetPlans_3d_fullres_tpmamba_1.5mm"  # which all rows share

    predicted = planned.predict(NAME, row, image.parent, tmp_path / "predicted", "--disable_tta", timeout=900)
    (file,) = predicted.glob("*.nii.gz")
    assert_same_geometry(file, image)
    assert set(np.unique(read_array(file))) <= {0, 1, 2, 3}


def test_nnunets_plans_hold_the_testbed_and_the_topology(nnunets_row):
    settings, stock = (
        json.loads((fold_of(nnunets_row, trainer).parent / "plans.json").read_text())["configurations"]["3d_fullres"]
        for trainer in (NNUNET, STOCK)
    )
    assert (settings["spacing"], settings["patch_size"]) == ([1.5, 1.5, 1.5], [64, 64, 64])
    assert settings["architecture"] == plan_unet((64, 64, 64), (1.5, 1.5, 1.5))
    assert settings["architecture"]["arch_kwargs"]["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 4]
    assert stock["architecture"] != settings["architecture"]


def test_nnunets_checkpoint_has_every_head(nnunets_row):
    weights = torch.load(fold_of(nnunets_row, NNUNET) / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert len({name for name in weights if "seg_layers" in name and name.endswith("weight")}) == 4


def test_nnunets_row_and_stock_nnunet_validated_the_same_case(nnunets_row):
    cases = []
    for trainer in (NNUNET, STOCK):
        summary = json.loads((fold_of(nnunets_row, trainer) / "validation" / "summary.json").read_text())
        cases.append([Path(case["prediction_file"]).name for case in summary["metric_per_case"]])
    assert len(cases[0]) == 1
    assert cases[0] == cases[1]


def test_nnunets_row_validates_again_with_val(nnunets_row):
    summary = fold_of(nnunets_row, NNUNET) / "validation" / "summary.json"
    before = json.loads(summary.read_text())["foreground_mean"]
    summary.unlink()
    nnunets_row.train(NAME, NNUNET, "--val", timeout=900)
    assert json.loads(summary.read_text())["foreground_mean"] == before


def test_the_export_of_nnunets_row_is_refused_by_name(nnunets_row, tmp_path):
    result = nnunets_row.run(
        "nnUNetv2_tpmamba", "export", "-d", 702, "-tr", NNUNET, "-o", tmp_path / "model.safetensors", check=False
    )
    assert result.returncode == 1
    assert f"{NNUNET} is no trainer of a network with SAM" in result.stderr
    assert "nnUNetv2_export_model_to_zip" in result.stderr


def test_all_rows_are_compared(nnunets_row, tmp_path):
    rows = [row for row in OF_TABLE_1 if is_trained(nnunets_row, row)]  # the others have failed above
    out = tmp_path / "report"
    nnunets_row.run("nnUNetv2_tpmamba", "compare", "-d", 702, "-tr", STOCK, *rows, "-o", out, "-np", 1)
    print((out / "report.md").read_text())
    cost = json.loads((out / "summary.json").read_text())["cost"]
    assert list(cost) == [STOCK, *rows]
    untrained = cost[NNUNET]["0"]["parameters"] - cost[NNUNET]["0"]["trained_parameters"]
    assert untrained == 256 * 4 + 4  # the coarsest head, which nnU-Net's loss gives no weight
