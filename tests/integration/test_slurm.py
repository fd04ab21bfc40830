"""A study under a real Slurm: an array that is preempted, queued again, cancelled, and of which one row fails."""

import time

import pytest
from support.raw_datasets import write_raw_dataset
from support.slurm import Slurm, missing, wait_until

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.data.folders import find_preprocessed, find_results
from nnunetv2_tpmamba.study.status import read_status

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

NAME = "Dataset907_Blobs"
WAITING, FAILING = "nnUNetTrainerTPMamba_tiny_waiting", "nnUNetTrainerTPMamba_tiny_without_memory"
LONG = 240  # seconds, for what takes some on a busy machine
FIRST, FAILS, SECOND, FAILS_TOO = range(4)  # tasks of the array


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := missing():
        pytest.skip(reason)
    with Slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def preprocessed(module_nnunet):
    """A data set for all tests, with the stock data that nnU-Net makes when it plans."""
    write_raw_dataset(module_nnunet.raw / NAME, [f"case{i}" for i in range(4)], (16, 20, 24), (3.0, 2.0, 2.0))
    module_nnunet.run("nnUNetv2_plan_and_preprocess", "-d", "907", "-c", "3d_fullres", "-npfp", 1, "-np", 1)
    return module_nnunet


@pytest.fixture
def environment(preprocessed, tmp_path, monkeypatch):
    """A planned study of two rows and two folds, with results of its own."""
    results = tmp_path / "results"
    results.mkdir()
    environment = preprocessed.environment | {"GATE": str(tmp_path / "gate"), "nnUNet_results": str(results)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    plan = ("--rows", WAITING, FAILING, "-n", "1", "--draws", "1", "--test", "2", "-device", "cpu")
    assert cli.main(["study", "plan", "-d", "907", *plan]) == 0
    return environment


def read(task):
    """A training of the study, by its place in the array, and how far it is."""
    status = read_status(find_preprocessed("907"), time.time())
    training, progress = status.trainings[task]
    return find_results() / status.study.folder(training), progress


def progress(task):
    return read(task)[1]


def logs(task):
    return sorted(read(task)[0].glob("training_log*"), key=lambda log: log.stat().st_mtime)


def waits_in_its_second_epoch(task):
    return wait_until(lambda: progress(task).state == "running" and progress(task).ended == 1, LONG)


def test_an_array_goes_on_after_preemption_and_failures(slurm, environment, tmp_path):
    assert {progress(task).state for task in range(4)} == {"not started"}
    array = slurm.submit(tmp_path / "study.sh", "--array=0-3", **environment)
    waits_in_its_second_epoch(FIRST)
    first, second = (f"{array}_{task}" for task in (FIRST, SECOND))

    slurm.run("scancel", "--batch", "--signal=USR1", first)
    wait_until(lambda: progress(FIRST).state == "stopped", LONG)
    assert progress(FIRST).message.startswith("Stopped by SIGUSR1 in epoch 1; checkpoint_latest.pth holds the 1 epoch ")
    wait_until(lambda: slurm.state(first) in ("PENDING", "RUNNING") and slurm.fact(first, "Restarts") == "1", LONG)

    for task in (FAILS, FAILS_TOO):
        wait_until(lambda task=task: slurm.state(f"{array}_{task}") == "FAILED", LONG)
        assert progress(task).state == "stopped"
        assert "Stopped: cpu has too little memory for this training" in progress(task).message
    waits_in_its_second_epoch(SECOND)

    (tmp_path / "gate").touch()
    for task in (FIRST, SECOND):
        wait_until(lambda task=task: progress(task).state == "finished", LONG)
        wait_until(lambda task=task: slurm.state(f"{array}_{task}") == "COMPLETED", LONG)
    assert slurm.fact(second, "Restarts") == "0"
    assert "Epoch 0" not in logs(FIRST)[-1].read_text()
    assert "Epoch 1" in logs(FIRST)[-1].read_text()

    again = slurm.submit(tmp_path / "study.sh", f"--array={FIRST},{SECOND}", **environment)
    for task in (FIRST, SECOND):
        wait_until(lambda task=task: slurm.state(f"{again}_{task}") == "COMPLETED", LONG)
    assert len(logs(FIRST)) == 2
    assert len(logs(SECOND)) == 1


def test_slurms_own_preemption_costs_the_running_epoch_only(slurm, environment, tmp_path):
    task = f"{slurm.submit(tmp_path / 'study.sh', f'--array={FIRST}', **environment)}_{FIRST}"
    waits_in_its_second_epoch(FIRST)
    (tmp_path / "urgent.sh").write_text("#!/bin/sh\nsleep 1\n")
    urgent = slurm.submit(tmp_path / "urgent.sh", "--partition=high", "--exclusive", **environment)
    wait_until(lambda: slurm.state(urgent) == "COMPLETED", LONG)
    assert progress(FIRST).message.startswith("Stopped by SIGTERM in epoch 1; checkpoint_latest.pth holds the 1 epoch ")
    (tmp_path / "gate").touch()
    wait_until(lambda: progress(FIRST).state == "finished", LONG)
    assert slurm.fact(task, "Restarts") == "1"
    assert "Epoch 0" not in logs(FIRST)[-1].read_text()


def test_a_cancelled_task_saves_and_stays_cancelled(slurm, environment, tmp_path):
    task = f"{slurm.submit(tmp_path / 'study.sh', f'--array={FIRST}', **environment)}_{FIRST}"
    waits_in_its_second_epoch(FIRST)
    slurm.run("scancel", task)
    wait_until(lambda: progress(FIRST).state == "stopped", LONG)
    assert progress(FIRST).message.startswith("Stopped by SIGTERM in epoch 1; checkpoint_latest.pth holds the 1 epoch ")
    wait_until(lambda: slurm.state(task) == "CANCELLED", LONG)
    time.sleep(8)  # longer than a task that is queued again would wait
    assert slurm.state(task) == "CANCELLED"
    assert progress(FIRST).state == "stopped"
