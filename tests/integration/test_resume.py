"""A training that is killed or stopped wherever, and continued with --c, ends as if nothing had happened."""

import json
import random
import re
import signal

import numpy as np
import pytest
import torch
from support.forked_training import forked_training
from support.nnunet import model_folder, train_command
from support.raw_datasets import write_raw_dataset

from nnunetv2_tpmamba.config import PREEMPTED
from nnunetv2_tpmamba.trained.checkpoints import load_without_code

NAME = "Dataset903_Blobs"
TRAINER = "nnUNetTrainerTPMamba_killed"
SOAK = "nnUNetTrainerTPMamba_soak"
IN_PROCESS = {"nnUNet_n_proc_DA": "0"}  # batches are made in the training's own process, one after the other
KILLS = {  # and the first epoch of the training killed so
    "0 train_step 0 SIGKILL": 0,
    "0 checkpoint_best 0.5 SIGKILL": 0,
    "1 train_step 0 SIGUSR1": 0,
    "2 checkpoint_latest 0.5 SIGKILL": 1,
    "3 validation_step 0 SIGKILL": 2,
    "4 checkpoint_final 0.9 SIGTERM SIGTERM": 3,
    "5 validation 0 SIGTERM": 4,
    "5 validation 0 SIGKILL": None,
}


@pytest.fixture(scope="module")
def train(module_nnunet, tmp_path_factory):
    """Train fold 0 into a folder of results of its own; it must end as KILL_AT says. Return its first epoch."""
    write_raw_dataset(module_nnunet.raw / NAME, [f"case{i}" for i in range(5)], (16, 20, 24), (3.0, 2.0, 2.0))
    module_nnunet.plan(NAME)
    log = tmp_path_factory.mktemp("log") / "log.txt"
    with forked_training(module_nnunet) as start:

        def train(trainer, results, *options, kill_at="", **environment):
            command = train_command(NAME, trainer, *options)
            variables = IN_PROCESS | {"nnUNet_results": str(results), "KILL_AT": kill_at} | environment
            status, left = start(command, log, **variables)
            printed = log.read_text()
            sent = kill_at.rpartition(" ")[2]
            expected = {"": 0, "SIGKILL": -signal.SIGKILL}.get(sent, PREEMPTED)
            assert status == expected, printed[-6000:]
            assert expected == -signal.SIGKILL or not left, "it has left processes behind"
            assert expected != PREEMPTED or f"Stopped by {sent}" in printed
            epochs = re.findall(r": Epoch (\d+)", printed)
            return int(epochs[0]) if epochs else None

        yield train


def fold_folder(trainer, results):
    return model_folder(results, NAME, trainer) / "fold_0"


def assert_same_training(trainer, one, other):
    """Weights, optimiser and curves, the last and the best, and validation of two runs."""
    folders = [fold_folder(trainer, results) for results in (one, other)]
    for name in ("checkpoint_final.pth", "checkpoint_best.pth"):
        a, b = (torch.load(folder / name, weights_only=False) for folder in folders)
        torch.testing.assert_close(b["network_weights"], a["network_weights"], rtol=0, atol=1e-6)
        torch.testing.assert_close(b["optimizer_state"], a["optimizer_state"], rtol=0, atol=1e-6)
        for curve in ("train_losses", "val_losses", "ema_fg_dice", "lrs"):
            np.testing.assert_allclose(b["logging"][curve], a["logging"][curve], rtol=1e-6, err_msg=curve)
        assert a["current_epoch"] == b["current_epoch"]
        assert a["_best_ema"] == pytest.approx(b["_best_ema"], nan_ok=True)
    dice = [json.loads((folder / "validation" / "summary.json").read_text())["mean"] for folder in folders]
    assert dice[0] == dice[1]
    assert not list(other.rglob(".unfinished*"))


def test_killed_anywhere_it_ends_as_if_it_had_not_been(train, module_nnunet, tmp_path):
    train(TRAINER, tmp_path / "killed", kill_at="0 preprocess 0.3 SIGTERM")
    (data,) = module_nnunet.preprocessed.glob(f"{NAME}/*_tpmamba*")
    assert [path.suffix for path in sorted(data.glob("case*"))] == [".b2nd", ".pkl", ".b2nd"] * 2  # two of five cases
    train(TRAINER, tmp_path / "straight")
    first_epochs = {}
    for kill_at in KILLS:
        first_epochs[kill_at] = train(TRAINER, tmp_path / "killed", "--c", kill_at=kill_at)
        for checkpoint in fold_folder(TRAINER, tmp_path / "killed").glob("*.pth"):
            load_without_code(checkpoint)  # whole, whatever was being written
    assert first_epochs == KILLS  # that is, it did continue
    assert train(TRAINER, tmp_path / "killed", "--c") is None  # only the validation was left
    assert_same_training(TRAINER, tmp_path / "straight", tmp_path / "killed")


def test_a_signal_to_all_processes_of_a_job_stops_it_as_one_to_the_training_does(train, tmp_path):
    """As schedulers send it; also to the workers that make the batches, and to those that export the validation."""
    on = {"KILL_ALL": "1", "nnUNet_n_proc_DA": "2"}
    assert train(TRAINER, tmp_path, "--c", kill_at="1 train_step 0 SIGUSR1", **on) == 0
    assert train(TRAINER, tmp_path, "--c", kill_at="2 train_step 0 SIGTERM", **on) == 1
    assert train(TRAINER, tmp_path, "--c", kill_at="5 validation 0 SIGTERM", **on) == 2
    assert fold_folder(TRAINER, tmp_path).joinpath("checkpoint_final.pth").exists()


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_soak(train, tmp_path):
    """200 epochs, killed in every tenth at a random point: the result of an unkilled run, and memory stays flat."""
    train(SOAK, tmp_path / "straight")
    chance = random.Random(0)
    for epoch in range(9, 200, 10):
        checkpoint = "checkpoint_latest" if epoch < 199 else "checkpoint_final"
        place = chance.choice(["train_step", "validation_step", checkpoint])
        train(SOAK, tmp_path / "killed", "--c", kill_at=f"{epoch} {place} {chance.random():.2f} SIGKILL")
    train(SOAK, tmp_path / "killed", "--c")
    assert_same_training(SOAK, tmp_path / "straight", tmp_path / "killed")
    memory = np.loadtxt(fold_folder(SOAK, tmp_path / "straight") / "memory.txt")[:, 1]
    print(f"\nmemory after epochs 20 and 200: {memory[19] / 1e9:.2f} and {memory[-1] / 1e9:.2f} GB")
    assert memory[-20:].max() < 1.1 * memory[15:35].max()
