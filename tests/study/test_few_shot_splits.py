"""The verb fewshot writes nnU-Net's splits, keeps earlier ones, and changes nothing where it refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.raw_datasets import make_raw

from nnunetv2_tpmamba.data.few_shot import Fold


def trained(fold):
    fold.mkdir(parents=True)
    (fold / "checkpoint_best.pth").touch()


def test_splits_are_nnunets_and_the_table_lies_beside(folder, run):
    output = run("-n", 2, "--draws", 3, "--test", 2)
    splits = json.loads((folder / "splits_final.json").read_text())
    protocol = [Fold.from_json(fold) for fold in json.loads((folder / "fewshot.json").read_text())["folds"]]
    assert [set(split) for split in splits] == [{"train", "val"}] * 4
    assert [fold.split() for fold in protocol] == splits
    assert (folder / "fewshot.md").read_text().strip() in output


def test_regions_count_as_classes_and_the_ignore_label_does_not(folder, run):
    output = run("-n", 1, "--draws", 1, "--test", "case_0", "case_4")
    assert "No training case of fold 0 has: core" in output
    assert "ignore" not in output


def test_existing_splits_are_kept(folder, run):
    splits = folder / "splits_final.json"
    splits.write_text("[1]")
    run("-n", 2, "--draws", 2)
    second = splits.read_text()
    run("-n", 3, "--draws", 2)
    assert (folder / "splits_final.backup-1.json").read_text() == "[1]"
    assert (folder / "splits_final.backup-2.json").read_text() == second


def test_again_changes_nothing(folder, run):
    run("-n", 2)
    before = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    trained(folder.parents[1] / "results" / folder.name / "T__P__C" / "fold_0")
    run("-n", 2)
    assert {path.name: path.read_text() for path in folder.iterdir() if path.is_file()} == before


def test_trained_splits_are_not_replaced(folder, run):
    (folder / "splits_final.json").write_text("[1")  # damaged
    model = folder.parents[1] / "results" / folder.name / "T__P__C"
    trained(model / "fold_all")
    (model / "fold_2").mkdir()
    (model / "fold_2" / "training_log_2026.txt").touch()  # of one that stopped before its first epoch
    run("-n", 2)
    trained(model / "fold_3")
    before = sorted(path.name for path in folder.iterdir())
    assert "fold_3; move these elsewhere" in run("-n", 3, status=1)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_too_few_test_cases_for_a_verdict_are_mentioned(folder, run):
    on_two_cases = "No difference between methods can be significant on 2 test cases"
    with_all_and_3 = run("--test", 2, "-n", 3, "--draws", 1, "-tr", "A", "B")
    assert f"{on_two_cases}; 2 comparisons with the first method take 7" in with_all_and_3
    with_all_3_and_2 = run("--test", 2, "-n", 3, 2, "--draws", 1, "-tr", "A", "B", "C")
    assert f"{on_two_cases}; 6 comparisons with the first method take 8" in with_all_3_and_2


def test_the_device_is_named_in_the_script(folder, run):
    assert "-tr nnUNetTrainer -p P -device cpu --c'" in run("--script", "-device", "cpu", "-p", "P")


def test_the_script_trains_every_fold_with_both_trainers(folder, run, tmp_path):
    output = run("-n", 2, "--draws", 2, "--script", tmp_path / "train.sh")
    assert f"bash {tmp_path / 'train.sh'}\nor on Slurm: sbatch --array=0-5 {tmp_path / 'train.sh'}\n" in output
    trainings = re.findall(r"'nnUNetv2_train (.*)'", (tmp_path / "train.sh").read_text())
    trainers = ("nnUNetTrainer", "nnUNetTrainerTPMamba")
    assert trainings == [f"{folder.name} 3d_fullres {fold} -tr {name} --c" for fold in range(3) for name in trainers]


def test_an_existing_script_is_not_replaced_unasked(folder, run, tmp_path):
    script = tmp_path / "train.sh"
    script.write_text("mine")
    assert "exists; name another file" in run("--script", script, status=1)
    assert not (folder / "splits_final.json").exists()
    run("--script", script, "--overwrite")
    assert "nnUNetv2_train" in script.read_text()


def read_splits(folder):
    return json.loads((folder / "splits_final.json").read_text())


def test_the_seed_decides_which_cases_are_for_testing(folder, run):
    chosen = []
    for seed in (0, 1, 2, 3, 0):
        run("--test", 2, "--seed", seed)
        chosen.append(read_splits(folder)[0]["val"])
    assert chosen[0] == chosen[-1]
    assert len({tuple(cases) for cases in chosen}) > 1


def test_the_seed_decides_the_draws_where_the_test_cases_are_named(folder, run):
    drawn = []
    for seed in (0, 1, 2, 3, 0):
        run("-n", 2, "--draws", 3, "--test", "case_0", "--seed", seed)
        drawn.append(read_splits(folder)[1:])
    assert drawn[0] == drawn[-1]
    assert len({str(folds) for folds in drawn}) > 1
    assert json.loads((folder / "fewshot.json").read_text())["seed"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test", "case_9"], "--test: there is no case case_9; give a number"),
        (["--test", *(f"case_{index}" for index in range(6))], "names all 6 cases"),
        (["-n", "2", "2"], "give every number once"),
        (["-n", "9"], "-n 9: there are 5 training cases"),
        (["--draws", "0"], "--draws 0"),
        *((["--test", test], "give a whole number of cases") for test in ("inf", "nan", "1e400")),
        (["--script", "absent/train.sh"], "--script absent/train.sh: there is no folder absent; make it first"),
        (["--script", "/", "--overwrite"], "--script / is a folder; name a file"),
    ],
)
def test_wrong_requests_change_nothing(folder, run, arguments, message):
    assert message in run(*arguments, status=1)
    assert not (folder / "splits_final.json").exists()


def test_a_name_that_is_a_number_too_is_asked_for(folder, run):
    truth = folder / "gt_segmentations"
    (truth / "case_3.nii.gz").rename(truth / "3.nii.gz")
    assert "--test 3 is a number and the name of a case; for the number write 3.000" in run("--test", 3, status=1)
    assert not (folder / "splits_final.json").exists()
    run("--test", "3.000")
    assert len(json.loads((folder / "splits_final.json").read_text())[0]["val"]) == 3
    run("--test", 3, 3)
    assert json.loads((folder / "splits_final.json").read_text())[0]["val"] == ["3"]
    run("--test", 3, "case_2")
    assert json.loads((folder / "splits_final.json").read_text())[0]["val"] == ["3", "case_2"]


@pytest.mark.parametrize("damage", ["cut", "empty", "no image"])
def test_a_damaged_label_map_is_named(folder, run, damage):
    path = folder / "gt_segmentations" / "case_0.nii.gz"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) * 9 // 10], "empty": b"", "no image": b"no image"}[damage])
    errors = run(status=1).strip().splitlines()
    assert len([line for line in errors if str(path) in line]) == 1
    assert "make it again" in errors[-1]
    assert "Traceback" not in "".join(errors)
    assert not (folder / "splits_final.json").exists()


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"labels": {}}', '{"labels": {"a": 1}}'])
def test_a_damaged_dataset_json_is_named(folder, run, content):
    (folder / "dataset.json").write_text(content)
    assert f"{folder / 'dataset.json'} " in run(status=1)


def test_not_preprocessed(folder, run):
    shutil.rmtree(folder / "gt_segmentations")
    assert "preprocess the dataset first: nnUNetv2_plan_and_preprocess -d 9" in run(status=1)


@pytest.mark.parametrize("variable", ["nnUNet_preprocessed", "nnUNet_results"])
def test_variables_not_set(folder, run, monkeypatch, variable):
    monkeypatch.delenv(variable)
    assert f"the environment variable {variable} is not set" in run(status=1)
    assert not Path(folder, "splits_final.json").exists()


def test_cases_that_are_no_longer_among_the_raw_data_are_left_out(folder, run, tmp_path):
    """nnU-Net never removes a label that it copied; a fold with such a case would end its training."""
    make_raw(tmp_path / "raw" / folder.name, [f"case_{index}" for index in range(5)])
    output = run("-n", 2)
    assert "labels of cases that are not in nnUNet_raw any more; left out: case_5" in output
    splits = json.loads((folder / "splits_final.json").read_text())
    assert {case for fold in splits for part in fold.values() for case in part} == {f"case_{i}" for i in range(5)}
