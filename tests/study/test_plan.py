"""The verb study plan: which trainings a study has, what it writes, and what it refuses before it writes anything."""

import json
import re

import pytest
from support.raw_datasets import snapshot
from support.study_results import finish, log, split_message

from nnunetv2_tpmamba.data.few_shot import Fold
from nnunetv2_tpmamba.data.folders import results_of_repeat
from nnunetv2_tpmamba.study.plan import read_study
from nnunetv2_tpmamba.study.rows import trainers_of
from nnunetv2_tpmamba.trainers import catalogue

DEMO = "nnUNetTrainerTPMamba_demo"
FULL = "nnUNetTrainerTPMamba"
FEW = ("-n", 2, "--draws", 2, "--test", 2)


@pytest.fixture
def plan(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sam = tmp_path / "sam.pth"
    sam.touch()
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(sam))
    return lambda *arguments, status=0: verb("study", "plan", "--rows", *arguments, status=status)


def test_table_1_has_every_row_with_a_printed_dice_and_stock_nnunet():
    names = set(trainers_of(["table1"]))
    printed = {name for name, row in catalogue.rows().items() if row.row.table == "table 1" and row.row.dice}
    assert names == printed | {"nnUNetTrainer"}
    assert len(names) == 13


@pytest.mark.parametrize(
    ("table", "some", "number"),
    [
        ("table2", {FULL, f"{FULL}_conv3", f"{FULL}_ms5_only"}, 8),
        ("table3", {FULL, f"{FULL}_volume", f"{FULL}_triplane_only"}, 8),
        ("table4", {FULL, f"{FULL}_r24", f"{FULL}_r48", f"{FULL}_r192"}, 4),
        ("adapters", {FULL, f"{FULL}_lora", f"{FULL}_conv_adapter", f"{FULL}_attention"}, 4),
    ],
)
def test_the_other_tables_are_their_ablations_and_the_full_method(table, some, number):
    names = set(trainers_of([table]))
    assert some <= names
    assert len(names) == number


def test_a_row_that_several_names_ask_for_is_trained_once():
    names = list(trainers_of(["table4", FULL, "adapters", DEMO]))
    assert len(names) == len(set(names)) == 8


def test_nnunets_own_trainers_are_found():
    (found,) = trainers_of(["nnUNetTrainer_5epochs"]).values()
    assert found.__module__.startswith("nnunetv2.")


def test_the_papers_table_1_is_143_trainings(plan, folder, tmp_path):
    output = plan("table1", "-n", 2, 1, "--draws", 5, "--test", 1)
    assert "143 trainings: 13 rows x 11 folds; the plan is in" in output
    assert "sbatch --array=0-142 study.sh" in output
    assert len(re.findall(r"'nnUNetv2_train ", (tmp_path / "study.sh").read_text())) == 143
    assert [fold.split() for fold in read_study(folder).folds] == json.loads((folder / "splits_final.json").read_text())


def test_the_splits_are_those_of_fewshot(plan, run, folder):
    run(*FEW, "--seed", 4)
    files = [folder / name for name in ("splits_final.json", "fewshot.json", "fewshot.md")]
    before = [file.read_bytes() for file in files]
    plan(DEMO, *FEW, "--seed", 4)
    assert [file.read_bytes() for file in files] == before


def test_deleted_splits_are_written_again_for_the_same_study_only(plan, folder, tmp_path):
    plan(DEMO, *FEW, "--seed", 4)
    study, splits = read_study(folder), folder / "splits_final.json"
    before = splits.read_bytes()
    training = study.trainings()[0]
    finish(tmp_path / "results" / study.folder(training), training.fold.val)
    splits.unlink()
    plan(DEMO, *FEW, "--seed", 4)
    assert splits.read_bytes() == before
    splits.write_text("[]")
    message = plan(DEMO, *FEW, "--seed", 4, status=1)
    assert "results for the present splits" in message
    assert f"if all of them are on the planned folds, delete {splits}; else move these elsewhere" in message
    splits.unlink()
    (folder / "study.json").unlink()
    assert "there are results for splits that are gone" in plan(DEMO, *FEW, "--seed", 4, status=1)
    assert not splits.exists()


def test_repeats_have_folders_of_their_own(plan, folder, tmp_path):
    assert "4 trainings: 1 rows x 2 folds x 2 repeats" in plan(DEMO, "-n", 1, "--draws", 1, "--repeats", 2)
    study = read_study(folder)
    folders = [tmp_path / "results" / study.folder(training) for training in study.trainings()]
    assert len(set(folders)) == 4
    assert all(path.is_relative_to(results_of_repeat(2)) for path in folders[2:])
    assert not any(path.is_relative_to(results_of_repeat(2)) for path in folders[:2])


def test_the_same_plan_again_changes_nothing_but_is_no_error(plan, folder):
    plan(DEMO, *FEW)
    before = (folder / "study.json").stat().st_mtime_ns
    plan(DEMO, *FEW)
    assert (folder / "study.json").stat().st_mtime_ns == before


def test_another_plan_is_not_replaced_unasked(plan, folder, tmp_path):
    plan(DEMO, *FEW)
    before = snapshot(folder)
    message = plan(DEMO, FULL, *FEW, "--repeats", 2, "--script", "other.sh", status=1)
    assert "study.json holds a study with other rows, repeats; give the command that planned it" in message
    assert snapshot(folder) == before
    assert not (tmp_path / "other.sh").exists()
    plan(DEMO, FULL, *FEW, "--overwrite")
    assert read_study(folder).rows == (DEMO, FULL)


def test_another_script_is_not_replaced_unasked(plan, folder, tmp_path):
    (tmp_path / "study.sh").write_text("mine")
    assert "--script study.sh exists; name another file" in plan(DEMO, *FEW, status=1)
    assert not (folder / "study.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": []}', '{"folds": [{}], "rows": []}'])
def test_a_damaged_plan_is_named_and_can_be_replaced(plan, folder, content):
    (folder / "study.json").write_text(content)
    assert "study.json is damaged" in plan(DEMO, *FEW, status=1)
    plan(DEMO, *FEW, "--overwrite")
    assert read_study(folder).rows == (DEMO,)


def test_what_rows_need_is_named_before_anything_is_written(plan, folder, monkeypatch):
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", "/absent/sam.pth")

    def absent():
        raise ImportError("this network needs MONAI: pip install monai")

    monkeypatch.setattr(catalogue.trainers()["nnUNetTrainerTestbed_VNet"], "check_installed", absent)
    message = plan("nnUNetTrainerTestbed_VNet", DEMO, FULL, *FEW, status=1)
    assert "nnUNetTrainerTestbed_VNet: this network needs MONAI: pip install monai" in message
    assert f"{FULL}: TPMAMBA_SAM_CHECKPOINT is set to /absent/sam.pth, which does not exist" in message
    assert DEMO not in message
    assert not (folder / "splits_final.json").exists()


def test_results_on_other_cases_are_in_the_way(plan, folder, tmp_path):
    plan(DEMO, *FEW)
    study = read_study(folder)
    first, second, third = (tmp_path / "results" / study.folder(training) for training in study.trainings())
    log(first, split_message(study.folds[0]))
    plan(DEMO, *FEW)
    log(second, split_message(Fold(1, 1, ("case_0",) * 40, ("case_1",) * 10, ())))
    finish(third, cases=("case_9",))
    message = plan(DEMO, *FEW, status=1)
    assert "fold_1 (trained on 40 and validated on 10 cases, the study has 2 and 2)" in message
    assert "fold_2 (validated on cases that are not the study's)" in message
    assert "fold_0" not in message


def test_trained_splits_are_not_replaced_although_only_a_repeat_was_trained(plan, folder, tmp_path):
    plan(DEMO, *FEW, "--repeats", 2)
    study = read_study(folder)
    finish(tmp_path / "results" / study.folder(study.trainings()[-1]), study.folds[-1].val)
    before = snapshot(folder)
    message = plan(DEMO, *FEW, "--seed", 7, "--overwrite", status=1)
    assert "there are results for the present splits" in message or "there are results on other cases" in message
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table5"], "--rows table5: neither one of table1, table2"),
        ([DEMO, "-c", "2d"], "2D"),
        ([DEMO, "-p", "Absent"], "Absent.json does not exist; plan the dataset with"),
        ([DEMO, "-n", "2", "2"], "give every number once"),
        ([DEMO, "--script", "absent/study.sh"], "there is no folder absent"),
    ],
)
def test_wrong_requests_change_nothing(plan, folder, arguments, message):
    before = snapshot(folder)
    assert message in plan(*arguments, status=1)
    assert snapshot(folder) == before


def test_the_folder_of_results_is_needed(plan, folder, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    assert "the environment variable nnUNet_results is not set" in plan(DEMO, *FEW, status=1)
    assert not (folder / "splits_final.json").exists()
