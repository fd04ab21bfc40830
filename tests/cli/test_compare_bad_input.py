"""The verb compare on damaged or unsuitable input: one sentence that names the file, and nothing written."""

import json

import numpy as np
import pytest
from support.trained_datasets import CASES, DESCRIPTION


@pytest.fixture
def refused(data, compare):
    """Run ``compare`` on one training; return the one message it refuses it with."""

    def run(*arguments):
        errors = compare(*(arguments or ("-d", 9, "-tr", "nnUNetTrainer")), status=1)
        assert "Traceback" not in errors
        assert not (data.root / "out").exists()
        return errors

    data.train("nnUNetTrainer", 0, shift=2)
    run.validation = data.folder("nnUNetTrainer") / "fold_0" / "validation"
    return run


@pytest.fixture
def folders(data, refused):
    """The arguments that compare one folder of predictions with the truth."""
    return ("--predictions", refused.validation, "--reference", data.preprocessed / "gt_segmentations")


def test_a_prediction_that_was_cut_off(data, refused):
    path = refused.validation / "case_3.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert f"1 of 6 predictions cannot be compared:\n  {path} cannot be read" in refused()


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_damaged_truth_is_named_once(data, refused, content):
    data.train("Other", 0, shift=1)
    path = data.preprocessed / "gt_segmentations" / f"{CASES[0]}.nii.gz"
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    message = refused("-d", 9, "-tr", "nnUNetTrainer", "Other")
    assert message.count(str(path)) == 1
    assert "2 of 12 predictions cannot be compared" in message


def test_other_labels(data, refused):
    labels = np.where(data.truth["case_2"] > 0, data.truth["case_2"] + 10, 0).astype(np.uint8)
    data.write(refused.validation / "case_2.nii.gz", labels)
    assert "case_2.nii.gz holds the values 11, 12; dataset.json names 0, 1, 2: these are other labels" in refused()


def test_a_class_called_mean(data, refused):
    changed = json.dumps(DESCRIPTION | {"labels": {"background": 0, "mean": 1, "two": 2}})
    (data.folder("nnUNetTrainer") / "dataset.json").write_text(changed)
    assert "a class is called 'mean'" in refused()


@pytest.mark.parametrize("content", ["[1]", "{}", '{"labels": {"background": 0, "one": 1}}', "{"])
def test_labels_that_cannot_be_used(data, refused, folders, content):
    path = data.root / "labels.json"
    path.write_text(content)
    message = refused(*folders, "--labels", path)
    assert message.startswith("nnUNetv2_tpmamba compare: ")
    assert len(message.splitlines()) == 1


def test_a_fold_given_twice(refused):
    assert "-f 0 0: give every fold once" in refused("-d", 9, "-tr", "nnUNetTrainer", "-f", 0, 0)


def test_a_checkpoint_of_another_kind(data, compare):
    import torch

    data.train("nnUNetTrainer", 0, shift=2)
    path = data.folder("nnUNetTrainer") / "fold_0" / "checkpoint_final.pth"
    torch.save({"network_weights": {"a": torch.zeros(5)}, "optimizer_state": None}, path)
    cost = compare("-d", 9, "-tr", "nnUNetTrainer")["cost"]["nnUNetTrainer"]["0"]
    assert (cost["parameters"], cost["epochs"], cost["trained_parameters"]) == (5, None, None)
    assert "unknown" in (data.root / "out" / "report.md").read_text()


def test_a_damaged_cache_is_made_again(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    first = compare("-d", 9, "-tr", "nnUNetTrainer")
    for path in (data.root / "cache").rglob("*.json"):
        path.write_text("[1]")
    assert compare("-d", 9, "-tr", "nnUNetTrainer", "--overwrite")["groups"] == first["groups"]
