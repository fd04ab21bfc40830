"""The verb study status: every state that a training can be in, by folders as nnU-Net leaves them."""

import json
import time

import pytest
from support.study_results import begin, epochs, finish, log, split_message

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.cli.study import paint
from nnunetv2_tpmamba.data.few_shot import Fold
from nnunetv2_tpmamba.study.plan import Study
from nnunetv2_tpmamba.study.progress import Progress, read_progress
from nnunetv2_tpmamba.study.rows import trainers_of
from nnunetv2_tpmamba.study.status import LEGEND, Status, as_text, duration

FOLD = Fold(1, 1, ("a", "b"), ("c",), ())
NOW = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))


def read(folder):
    return read_progress(folder, FOLD, ".nii.gz", NOW)


def test_nothing_was_started(tmp_path):
    assert read(tmp_path / "absent") == Progress("not started")
    assert read(tmp_path) == Progress("not started")


def test_finished(tmp_path):
    begin(tmp_path)
    log(tmp_path, split_message(FOLD), *epochs(*range(10)), "Training done.", age=1e6, now=NOW)
    finish(tmp_path, ["c"])
    progress = read(tmp_path)
    assert (progress.state, progress.ended, progress.epochs) == ("finished", 10, 10)


def test_running_has_an_eta_from_its_epochs(tmp_path):
    begin(tmp_path, num_epochs=100)
    log(tmp_path, *epochs(*range(10), seconds=60), "", "Epoch 10", "Current learning rate: 0.01", age=20, now=NOW)
    progress = read(tmp_path)
    assert (progress.state, progress.ended, progress.epoch_seconds) == ("running", 10, 60)
    assert progress.last_sign == NOW - 20
    assert progress.seconds_left(NOW) == 90 * 60 - 20
    assert progress.message == "Current learning rate: 0.01"


@pytest.mark.parametrize(
    ("messages", "age", "state"),
    [
        (epochs(0, 1, seconds=10), 599, "running"),
        (epochs(0, 1, seconds=10), 601, "stopped"),
        (epochs(0, 1, seconds=1000), 2999, "running"),
        (epochs(0, 1, seconds=1000), 3001, "stopped"),
        (["Preprocessing"], 3599, "running"),
        (["Preprocessing"], 3601, "stopped"),
    ],
)
def test_how_long_silence_is_waited_for_depends_on_the_epochs(tmp_path, messages, age, state):
    begin(tmp_path)
    (tmp_path / "checkpoint_latest.pth").touch()
    log(tmp_path, *messages, age=age, now=NOW)
    assert read(tmp_path).state == state


@pytest.mark.parametrize("message", ["Stopped by SIGUSR1 in epoch 1; continue with --c", "Stopped: no memory"])
def test_a_stop_that_the_log_tells_is_known_at_once(tmp_path, message):
    (tmp_path / "checkpoint_latest.pth").touch()
    log(tmp_path, *epochs(0), message, age=1, now=NOW)
    progress = read(tmp_path)
    assert (progress.state, progress.message) == ("stopped", message)


def test_a_continued_training_is_where_its_newest_log_says(tmp_path):
    begin(tmp_path)
    # nnU-Net's names of logs do not sort by time: months and days have no leading zero
    log(tmp_path, *epochs(*range(7)), age=5000, now=NOW, name="training_log_2026_9_30_08_00_00.txt")
    log(tmp_path, *epochs(5, 6, seconds=30), age=10, now=NOW, name="training_log_2026_10_1_08_00_00.txt")
    progress = read(tmp_path)
    assert (progress.state, progress.ended) == ("running", 7)
    log(tmp_path, "", "Epoch 5", age=5, now=NOW, name="training_log_2026_10_2_08_00_00.txt")
    assert read(tmp_path).ended == 5


def test_validating(tmp_path):
    begin(tmp_path)
    log(tmp_path, *epochs(*range(10)), "Training done.", "predicting c", age=10, now=NOW)
    (tmp_path / "checkpoint_final.pth").touch()
    progress = read(tmp_path)
    assert (progress.state, progress.validating, progress.seconds_left(NOW)) == ("running", True, None)


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (["checkpoint_latest.pth"], "Training loss became nan"),
        ([], "no checkpoint is left, so it begins anew; Training loss became nan"),
        (["checkpoint_final.pth"], "trained, but validation/summary.json is missing; Training loss became nan"),
    ],
)
def test_what_a_stopped_training_lacks_is_said(tmp_path, present, message):
    log(tmp_path, *epochs(0, 1), "Training loss became nan", age=1e5, now=NOW)
    for name in present:
        (tmp_path / name).touch()
    progress = read(tmp_path)
    assert (progress.state, progress.message) == ("stopped", message)


def test_other_cases(tmp_path):
    log(tmp_path / "a", split_message(Fold(1, 1, ("a",), ("b",), ())), now=NOW)
    finish(tmp_path / "b", ["c", "d"])
    assert read(tmp_path / "a").message == "trained on 1 and validated on 1 cases, the study has 2 and 1"
    assert read(tmp_path / "b").message == "validated on cases that are not the study's"
    assert {read(tmp_path / name).state for name in "ab"} == {"other cases"}


def test_damaged_files_are_no_error(tmp_path):
    (tmp_path / "debug.json").write_text("{")
    (tmp_path / "training_log_2026_11_26_08_00_00.txt").write_bytes(b"\xff\n2026-11-26 08:00:00: Epoch 3 \n2026-")
    progress = read(tmp_path)
    assert (progress.ended, progress.epochs, progress.seconds_left(NOW)) == (3, None, None)


@pytest.fixture
def half_way(planned):
    """One training in each of four states, two not started."""
    study, folders = planned
    now = time.time()
    begin(folders[0])
    log(folders[0], *epochs(*range(10)), age=1e5, now=now)
    finish(folders[0], study.folds[0].val)
    begin(folders[1], num_epochs=100)
    log(folders[1], split_message(study.folds[0]), *epochs(*range(42)), age=60, now=now)
    log(folders[2], *epochs(0), "Stopped by SIGTERM", age=7200, now=now)
    log(folders[3], split_message(Fold(0, None, ("a",) * 9, ("b",), ())), now=now)
    return study, folders


def test_the_table_and_what_is_below(half_way, verb):
    output = verb("study", "status")
    assert "\033" not in output
    lines = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line}
    assert lines["nnUNetTrainer"] == ["done", "stop", "."]
    assert lines["TPMamba_demo"] == ["42%", "else", "."]
    assert "TPMamba_demo, fold 0: 42 of 100 epochs, last sign of life 1 min ago, about 57 min to go\n" in output
    assert "nnUNetTrainer, fold 1: 1 of ? epochs, last sign of life 2 h 0 min ago, no checkpoint is left" in output
    assert "so it begins anew; Stopped by SIGTERM" in output
    assert "6 trainings: 1 finished, 1 running, 1 stopped, 1 other cases, 2 not started" in output


def test_json_has_the_same(half_way, verb):
    status = json.loads(verb("study", "status", "--json"))
    assert status["counts"] == {"finished": 1, "running": 1, "stopped": 1, "other cases": 1, "not started": 2}
    running = next(each for each in status["trainings"] if each["state"] == "running")
    assert (running["row"], running["fold"], running["epochs_ended"]) == ("nnUNetTrainerTPMamba_demo", 0, 42)
    assert 57 * 60 - 60 < running["seconds_left"] < 58 * 60
    assert running["last_sign"].count(":") >= 2


@pytest.mark.parametrize("name", ["splits_final.json", "fewshot.json", "nnUNetPlans.json"])
def test_what_was_deleted_is_named(planned, folder, verb, name):
    (folder / name).unlink()
    assert f"{folder / name} is missing" in verb("study", "status", status=1)


def test_changed_splits_are_named(planned, folder, verb):
    (folder / "splits_final.json").write_text("[]")
    assert "splits_final.json does not hold the folds of the study" in verb("study", "status", status=1)


def test_without_a_plan(folder, verb):
    assert "study.json does not exist; plan the study first" in verb("study", "status", status=1)


def as_in_the_paper(progress, repeats=1):
    folds = tuple(Fold(number, number or None, ("a",) * 24, ("b",) * 6, ()) for number in range(11))
    study = Study("Dataset013_BTCV", tuple(trainers_of(["table1"])), folds, 0, repeats, "3d_fullres", "nnUNetPlans", {})
    return Status(study, tuple((training, progress) for training in study.trainings()), NOW, ())


@pytest.mark.parametrize(
    "progress",
    [
        Progress("finished"),
        Progress("other cases"),
        Progress("running", 1000, 1000, 30.0, NOW),
        Progress("running", 9999, None, 30.0, NOW),
    ],
)
def test_the_papers_table_1_fits_a_terminal_of_100_columns(progress):
    status = as_in_the_paper(progress, repeats=2)
    text = as_text(status, lambda text, state: text, 100)
    details = [line for line in text.splitlines() if not line.startswith("  ")]
    assert len([line for line in details if line.startswith("nnUNetTrainer ")]) == 2
    assert max(map(len, details)) <= 100


def test_more_folds_than_fit_come_in_further_tables():
    text = as_text(as_in_the_paper(Progress("finished")), lambda text, state: text, 60)
    tables = text.split("\n\n")[0].splitlines()
    assert sum(line.startswith("nnUNetTrainer ") for line in tables) == 2
    assert max(map(len, tables)) <= 60
    assert text.count("done") == 13 * 11 + 1


def test_colours_change_nothing_else():
    status = as_in_the_paper(Progress("stopped"))
    plain, coloured = (as_text(status, each, 100) for each in (lambda text, state: text, paint))
    assert coloured.count("\033[31mstop\033[0m") == 13 * 11 + 1
    for state in LEGEND:
        coloured = coloured.replace(paint("", state).removesuffix("\033[0m"), "")
    assert coloured.replace("\033[0m", "") == plain


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals(planned, capsys, monkeypatch, terminal, environment, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert cli.main(["study", "status", "-d", "9"]) == 0
    assert ("\033[" in capsys.readouterr().out) == coloured


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "less than a minute"),
        (29, "less than a minute"),
        (90, "2 min"),
        (3599, "1 h 0 min"),
        (86399, "1 d 0 h"),
        (200000, "2 d 7 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
