"""The verb compare on damaged or unsuitable input: one sentence that names the file, and nothing written."""

import json
import re

import numpy as np
import pytest
from support.trained_datasets import CASES, DESCRIPTION

from nnunetv2_tpmamba import cli


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


def test_a_prediction_that_was_cut_off_is_named(data, refused):
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


def test_a_prediction_with_other_labels_is_named(data, refused):
    labels = np.where(data.truth["case_2"] > 0, data.truth["case_2"] + 10, 0).astype(np.uint8)
    data.write(refused.validation / "case_2.nii.gz", labels)
    assert "case_2.nii.gz holds the values 11, 12; dataset.json names 0, 1, 2: these are other labels" in refused()


def test_a_class_called_mean_is_refused(data, refused):
    changed = json.dumps(DESCRIPTION | {"labels": {"background": 0, "mean": 1, "two": 2}})
    (data.folder("nnUNetTrainer") / "dataset.json").write_text(changed)
    assert "a class is called 'mean'" in refused()


@pytest.mark.parametrize("content", ["[1]", "{}", '{"labels": {"background": 0, "one": 1}}', "{"])
def test_labels_that_cannot_be_used_are_refused_in_one_line(data, refused, folders, content):
    path = data.root / "labels.json"
    path.write_text(content)
    message = refused(*folders, "--labels", path)
    assert message.startswith("nnUNetv2_tpmamba compare: ")
    assert len(message.splitlines()) == 1


def test_a_fold_given_twice_is_refused(refused):
    assert "-f 0 0: give every fold once" in refused("-d", 9, "-tr", "nnUNetTrainer", "-f", 0, 0)


def test_what_a_checkpoint_of_another_kind_lacks_is_unknown(data, compare):
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


class TestRefusals:
    def test_trainer_without_results(self, data, compare):
        data.train("nnUNetTrainer", 0, shift=2)
        message = compare("-d", 9, "-tr", "nnUNetTrainer", "Other", status=1)
        assert "Other has no results with nnUNetPlans and 3d_fullres" in message
        assert "choose one of nnUNetTrainer__nnUNetPlans__3d_fullres" in message

    def test_unfinished_fold(self, data, compare):
        data.train("nnUNetTrainer", 0, shift=2)
        (data.folder("nnUNetTrainer") / "fold_0/validation/summary.json").unlink()
        assert "fold 0 of nnUNetTrainer is not finished" in compare("-d", 9, "-tr", "nnUNetTrainer", "-f", 0, status=1)
        assert "there is no fold that all have finished" in compare("-d", 9, "-tr", "nnUNetTrainer", status=1)

    def test_other_classes(self, data, compare):
        data.train("nnUNetTrainer", 0, shift=2)
        data.train("Other", 0, shift=2, labels={"background": 0, "two": 1, "one": 2})
        message = compare("-d", 9, "-tr", "nnUNetTrainer", "Other", status=1)
        assert "nnUNetTrainer was trained on the classes one=1, two=2, Other on two=1, one=2" in message

    def test_damaged_prediction(self, data, compare):
        data.train("nnUNetTrainer", 0, shift=2)
        (data.folder("nnUNetTrainer") / "fold_0/validation/case_3.nii.gz").write_bytes(b"")
        message = compare("-d", 9, "-tr", "nnUNetTrainer", status=1)
        assert re.search(r"1 of 6 predictions cannot be compared:\n.*case_3.nii.gz is empty", message)
        assert not (data.root / "out").exists()

    def test_no_common_case(self, data, compare):
        data.train("nnUNetTrainer", 0, shift=2, cases=CASES[:2])
        data.train("Other", 0, shift=2, cases=CASES[3:5])
        said = compare("-d", 9, "-tr", "nnUNetTrainer", "Other", status=1)
        assert "there is no case of fold 0 that all methods have predicted" in said

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "give either -d and -tr"),
            (["-tr", "A"], "-tr needs -d"),
            (["--predictions", "a"], "--predictions needs --reference"),
            (["--predictions", "a", "--reference", "b"], "needs either -d or --labels"),
            (["-d", "9", "-tr", "A", "A"], "give every trainer once"),
            (["-d", "9", "-tr", "A", "B", "C", "-p", "P", "Q"], "-p: give one for all 3 trainers, or one for each"),
            (["-d", "9", "--predictions", "absent", "--reference", "b"], "absent is no folder"),
            (["-d", "9", "--predictions", ".", "--reference", "absent"], "absent is no folder"),
            (["-d", "9", "-tr", "A", "--images", "absent"], "absent is no folder"),
            (["-d", "9", "--predictions", ".", "./", "--reference", "."], "--predictions . .: give every folder once"),
            (["-d", "9", "--predictions", ".", "--reference", ".", "-f", "0"], "-f is for trainers (-tr)"),
            (["-d", "9", "--predictions", ".", "--reference", ".", "-c", "2d"], "-c is for trainers (-tr)"),
            (["-d", "9", "--predictions", ".", "--reference", ".", "-p", "P"], "-p is for trainers (-tr)"),
            (["-d", "9", "-tr", "A", "--reference", "."], "--reference is for --predictions"),
            (["-d", "9", "-tr", "A", "--labels", "file"], "--labels is for --predictions"),
        ],
    )
    def test_options_that_do_not_go_together(self, data, compare, arguments, message):
        assert message in compare(*arguments, status=1)

    @pytest.mark.parametrize(
        ("out", "message"),
        [
            ("pred", "-o {0}/pred lies inside {0}/pred, which is read; name another folder with -o"),
            ("pred/report", "-o {0}/pred/report lies inside {0}/pred, which is read; name another"),
            ("truth", "-o {0}/truth lies inside {0}/truth, which is read; name another"),
            ("images", "-o {0}/images lies inside {0}/images, which is read; name another"),
            (".", "{0}/.+, which is read, lies inside -o {0}; name another folder with -o"),
        ],
    )
    def test_a_report_among_what_is_compared(self, data, out, message, capsys):
        for folder in ("pred", "truth"):
            data.write(data.root / "work" / folder / "case_0.nii.gz", data.truth["case_0"])
        work = data.root / "work"
        (work / "images").mkdir()
        before = sorted(work.rglob("*"))
        folders = ["--predictions", work / "pred", "--reference", work / "truth", "--images", work / "images"]
        arguments = ["compare", *folders, "-d", 9, "-o", work / out, "--overwrite", "-np", 1]
        assert cli.main(list(map(str, arguments))) == 1
        assert re.search(message.format(work), capsys.readouterr().err)
        assert sorted(work.rglob("*")) == before

    @pytest.mark.parametrize("tolerance", ["0", "-1", "wide", "three=1", "one="])
    def test_tolerance(self, data, compare, tolerance):
        data.train("nnUNetTrainer", 0, shift=2)
        assert f"--tolerance {tolerance}: " in compare(
            "-d", 9, "-tr", "nnUNetTrainer", f"--tolerance={tolerance}", status=1
        )
