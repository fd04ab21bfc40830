"""What a study costs, from real iterations of tiny trainers in processes of their own, and the arithmetic."""

import json
import re

import pytest
import torch
from support.nnunet import PLUGIN, TRAINERS
from support.plans import stock_configuration, stock_plans
from support.raw_datasets import snapshot

from nnunetv2_tpmamba.data.few_shot import Fold
from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet
from nnunetv2_tpmamba.study.estimate import LEFT_OUT, as_text, device_named
from nnunetv2_tpmamba.study.iteration import Iteration, _is_lack_of_memory, _iterations
from nnunetv2_tpmamba.study.plan import Study

TINY = "nnUNetTrainerTPMamba_tiny"
CPU = torch.device("cpu")
FOLDS = tuple(Fold(number, None, ("a",), ("b",), ()) for number in range(5))
STUDY = Study("Dataset009_Few", ("A", "B", "C"), FOLDS, 0, 2, "3d_fullres", "nnUNetPlans", {})


def test_hours_are_seconds_times_iterations():
    assert Iteration("A", 1.8, None, 250 * 1000).hours == pytest.approx(125)
    assert Iteration("A", None, None, 250 * 1000).hours is None


def test_the_table_says_what_each_row_and_the_study_cost():
    results = [
        Iteration("A", 0.36, int(7.04e9), 250_000),
        Iteration("B", 0.072, None, 250_000),
        Iteration("C", problem="CUDA out of memory", fits=False),
    ]
    text = as_text(STUDY, results, CPU)
    cells = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert cells["A"] == ["0.36", "7.0", "25.0", "250"]
    assert cells["B"] == ["0.072", "-", "5.0", "50.0"]
    assert cells["C"] == ["-"] * 4
    assert "one after the other: 300 hours, or 12 days" in text
    assert text.count("20 trainings") == 1
    assert LEFT_OUT in text
    assert "Do not fit on this device: C" in text


def test_what_failed_otherwise_is_not_said_to_need_memory():
    text = as_text(STUDY, [Iteration("A", problem="ValueError: wrong")], CPU)
    assert "Could not be measured, and are not in the hours: A" in text
    assert "fit" not in text


def raised(error, cause):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (raised(RuntimeError("too little memory"), torch.OutOfMemoryError("CUDA out of memory")), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (raised(RuntimeError("wrong"), ValueError("wrong")), False),
    ],
)
def test_which_errors_are_a_lack_of_memory(error, lacks):
    assert _is_lack_of_memory(error) == lacks


def test_a_device_that_is_absent_is_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RuntimeError, match="--estimate: PyTorch finds no cuda device here; give this command on"):
        device_named(None)
    assert device_named("cpu") == CPU


@pytest.fixture
def trained_here(folder, tmp_path, monkeypatch):
    """Plans of small patches for stock nnU-Net, and the tests' own trainers beside ours."""
    patch = [16, 32, 32]
    configuration = stock_configuration(patch_size=patch, architecture=plan_unet(patch))
    plans = stock_plans(dataset_name=folder.name, configurations={"3d_fullres": configuration})
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    monkeypatch.setenv("nnUNet_extTrainer", f"{PLUGIN}:{TRAINERS}")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("row", "number", "labels"),
    [
        (f"{TINY}_short", 2, {"background": 0, "a": 1, "b": 2}),  # one output, a batch of 1
        ("nnUNetTrainer", 250_000, {"background": 0, "a": [1, 2], "b": 2, "ignore": 3}),  # deep supervision, regions
    ],
)
def test_iterations_are_the_trainers_own(trained_here, folder, tmp_path, row, number, labels):
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(description | {"labels": labels}))
    before = snapshot(folder)
    (tmp_path / "scratch").mkdir()
    result = _iterations(folder.name, "3d_fullres", "nnUNetPlans", row, CPU, tmp_path / "scratch")
    assert (result.row, result.per_training, result.problem, result.fits) == (row, number, "", True)
    assert 0 < result.seconds < 60
    assert result.peak_bytes > 1e8
    assert snapshot(folder) == before


@pytest.mark.integration
def test_the_verb_measures_each_row_in_a_process_of_its_own(trained_here, verb, tmp_path):
    rows = (f"{TINY}_short", f"{TINY}_without_memory", f"{TINY}_killed")
    output = verb("study", "plan", "--rows", *rows, "--test", 2, "-device", "cpu", "--estimate")
    assert re.search(rf"\[1/3\] {rows[0]}: \S+ s per iteration, \S+ GB, \S+ h per training", output)
    assert f"[2/3] {rows[1]}: does not fit: RuntimeError: cpu has too little memory for this training" in output
    assert f"[3/3] {rows[2]}: does not fit: the system killed its process" in output
    assert f"Do not fit on this device: {rows[1]}, {rows[2]}" in output
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.gpu
def test_real_iterations_on_a_gpu(folder, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = verb("study", "plan", "--rows", "nnUNetTrainerTPMamba_demo", "--test", 2, "--estimate")
    assert re.search(r"\[1/1\] nnUNetTrainerTPMamba_demo: \S+ s per iteration, \S+ GB", output)
