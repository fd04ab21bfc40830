"""A planned and preprocessed data set of six small label maps, and the verbs fewshot and study on it."""

import json

import numpy as np
import pytest
import SimpleITK
from support.plans import stock_plans

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.study.plan import read_study


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    folder = tmp_path / "preprocessed" / "Dataset009_Few"
    (folder / "gt_segmentations").mkdir(parents=True)
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    description["regions_class_order"] = [1, 2]
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "nnUNetPlans.json").write_text(json.dumps(stock_plans()))
    for index in range(6):
        array = np.zeros((4, 5, 6), np.uint8)
        array[1, 1, 1], array[2, 2, 2] = 3, 2 if index == 4 else 1
        path = folder / "gt_segmentations" / f"case_{index}.nii.gz"
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    return folder


@pytest.fixture
def verb(folder, capsys):
    """Run a verb on the data set; return what it prints, or where it fails what it says."""

    def run(*arguments, status=0):
        name, *others = map(str, arguments)
        part = [others.pop(0)] if name == "study" else []
        result = cli.main([name, *part, "-d", "9", *others])
        output, errors = capsys.readouterr()
        assert result == status, errors
        return output if status == 0 or not errors else errors

    return run


@pytest.fixture
def run(verb):
    return lambda *arguments, status=0: verb("fewshot", *arguments, status=status)


@pytest.fixture
def planned(folder, verb, tmp_path, monkeypatch):
    """A study of two rows and three folds, and where nnU-Net puts its trainings."""
    monkeypatch.chdir(tmp_path)
    verb("study", "plan", "--rows", "nnUNetTrainer", "nnUNetTrainerTPMamba_demo", "-n", 2, "--draws", 2, "--test", 2)
    study = read_study(folder)
    return study, [tmp_path / "results" / study.folder(training) for training in study.trainings()]
