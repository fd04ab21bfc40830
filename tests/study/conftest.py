"""A preprocessed data set of six small label maps, and the verb fewshot on it."""

import json

import numpy as np
import pytest
import SimpleITK

from nnunetv2_tpmamba import cli


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    folder = tmp_path / "preprocessed" / "Dataset009_Few"
    (folder / "gt_segmentations").mkdir(parents=True)
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    for index in range(6):
        array = np.zeros((4, 5, 6), np.uint8)
        array[1, 1, 1], array[2, 2, 2] = 3, 2 if index == 4 else 1
        path = folder / "gt_segmentations" / f"case_{index}.nii.gz"
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    return folder


@pytest.fixture
def run(capsys):
    def run(*arguments, status=0):
        result = cli.main(["fewshot", "-d", "9", *map(str, arguments)])
        output, errors = capsys.readouterr()
        assert result == status, errors
        return output if status == 0 else errors

    return run
