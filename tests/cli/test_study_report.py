"""The verb study report, on a study that is finished in parts."""

import csv
import json
import shutil
import time

import pytest
from support.plans import stock_plans
from support.trained_datasets import CASES, NAME

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.study.finished import gather_finished

ROWS = ("nnUNetTrainer", "nnUNetTrainerTPMamba_demo")


@pytest.fixture
def study(data, monkeypatch):
    monkeypatch.chdir(data.root)
    (data.preprocessed / "nnUNetPlans.json").write_text(json.dumps(stock_plans()))
    options = ("-n", "2", "--draws", "2", "--test", *CASES[:2], "--repeats", "2")
    assert cli.main(["study", "plan", "-d", "9", "--rows", *ROWS, *options]) == 0
    return data


@pytest.fixture
def report(study, capsys):
    def run(status=0):
        assert cli.main(["study", "report", "-d", "9", "-o", "out", "-np", "1"]) == status
        output, errors = capsys.readouterr()
        return errors if status else output

    return run


def train(study, row, *folds, shift=1):
    for fold in folds:
        study.train(row, fold, shift, cases=CASES[:2])


def test_it_compares_what_is_finished_and_names_the_rest(study, report):
    train(study, ROWS[0], 0, 1, 2, shift=2)
    train(study, ROWS[1], 0, 1)
    again = study.results.parent / "repeat_2" / NAME
    shutil.copytree(study.results, again)
    shutil.rmtree(again / study.folder(ROWS[0]).name / "fold_2")

    output = report()
    summary = json.loads((study.root / "out/summary.json").read_text())
    assert summary["title"] == f"{NAME}: 2 of 2 rows, 2 of 3 folds, 2 of 2 repeats"
    assert summary["notes"][:2] == [
        "Left out, because not finished: nnUNetTrainerTPMamba_demo fold 2; nnUNetTrainer fold 2 of repeat 2; "
        "nnUNetTrainerTPMamba_demo fold 2 of repeat 2.",
        "Left out, because finished, but other rows have not finished as much: nnUNetTrainer fold 2.",
    ]
    assert all(f"Note: {note}" in output for note in summary["notes"])
    assert [group["title"] for group in summary["groups"]] == ["6 training cases", "2 training cases"]
    assert summary["groups"][1]["spread"][ROWS[0]]["Dice"]["repeats"] == {"deviation": 0.0, "n": 2}
    with (study.root / "out/per_case.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {(line["method"], line["fold"], line["repeat"]) for line in lines} == {
        (row, fold, repeat) for row in ROWS for fold in "01" for repeat in "12"
    }
    text = (study.root / "out/report.md").read_text()
    assert "for the 13 organs of BTCV" in text
    assert "The study is not finished, so no table claims a difference" in text


def test_nothing_is_finished(report):
    assert "no training of the study is finished; nnUNetv2_tpmamba study status shows" in report(status=1)


def test_a_deleted_plan_is_named(study, report):
    (study.preprocessed / "study.json").unlink()
    assert "study.json does not exist; plan the study first" in report(status=1)


def test_a_repeat_on_other_cases_is_left_out(study):
    train(study, ROWS[0], 0)
    train(study, ROWS[1], 0)
    again = study.results.parent / "repeat_2" / NAME
    shutil.copytree(study.results, again)
    validation = again / study.folder(ROWS[1]).name / "fold_0" / "validation"
    (validation / f"{CASES[0]}.nii.gz").rename(validation / f"{CASES[7]}.nii.gz")
    gathered = gather_finished(study.preprocessed, time.time())
    assert gathered.title.endswith("1 of 2 repeats")
    assert "nnUNetTrainerTPMamba_demo folds 0, 1, 2 of repeat 2" in gathered.notes[0]
