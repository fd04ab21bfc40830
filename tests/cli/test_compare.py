"""The verb compare on folders as nnU-Net leaves them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from support.images import store_as
from support.trained_datasets import CASES, DESCRIPTION, NAME

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.cli.compare import by_name
from nnunetv2_tpmamba.comparison.metrics import METRICS, VOLUMES


def test_two_trainers_have_nnunets_scores_and_their_paired_difference(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    data.train("Other", 0, shift=1)
    report = compare("-d", 9, "-tr", "nnUNetTrainer", "Other")
    (group,) = report["groups"]
    for trainer in ("nnUNetTrainer", "Other"):
        summary = json.loads((data.folder(trainer) / "fold_0/validation/summary.json").read_text())
        means = group["methods"][trainer]["Dice"]["per_fold"]["0"]
        assert means["mean"] == summary["foreground_mean"]["Dice"]
        assert [means["one"], means["two"]] == [summary["mean"][key]["Dice"] for key in "12"]
    paired = group["paired"]["Other"]["Dice"]
    assert (paired["n"], paired["wins"], paired["losses"]) == (6, 6, 0)
    assert paired["p"] == 2**-5
    assert report["cost"]["Other"]["0"] == {
        "epochs": 3,
        "epoch_seconds": 30.0,
        "hours": 0.025,
        "parameters": 100,
        "trained_parameters": 30,
        "checkpoint_bytes": (data.folder("Other") / "fold_0/checkpoint_final.pth").stat().st_size,
        "peak_memory_gb": None,
        "prediction_seconds": None,
        "prediction_memory_gb": None,
    }
    assert report["notes"] == []
    assert {path.name for path in (data.root / "out").iterdir()} == {
        *("report.html", "report.md", "summary.json", "per_case.csv", "convergence.png", "paired.png", "overlays.png")
    }


def test_the_html_needs_no_other_file(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    data.train("Other", 0, shift=1)
    compare("-d", NAME, "-tr", "nnUNetTrainer", "Other")
    page = (data.root / "out" / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page
    assert page.count("<img") == 3


def test_the_table_of_cases_has_nnunets_dice_of_each_class(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    compare("-d", 9, "-tr", "nnUNetTrainer")
    rows = list(csv.DictReader((data.root / "out" / "per_case.csv").read_text().splitlines()))
    summary = json.loads((data.folder("nnUNetTrainer") / "fold_0/validation/summary.json").read_text())
    expected = [case["metrics"][key]["Dice"] for case in summary["metric_per_case"] for key in "12"]
    assert list(rows[0]) == ["method", "fold", "draw", "repeat", "case", "class", "metric", "value"]
    of = {name: [row for row in rows if row["metric"] == name] for name in (*METRICS, *VOLUMES)}
    assert sum(map(len, of.values())) == len(rows)
    assert [float(row["value"]) for row in of["Dice"]] == expected
    assert [row["case"] for row in of["HD95"]] == [case for case in CASES[:6] for _ in range(2)]
    voxels = [(data.truth[case] == label).sum() for case in CASES[:6] for label in (1, 2)]
    assert [float(row["value"]) for row in of["truth_ml"]] == pytest.approx([0.003 * number for number in voxels])
    assert {tuple(row[key] for key in ("method", "fold", "draw", "repeat")) for row in rows} == {
        ("nnUNetTrainer", "0", "", "1")
    }


def test_the_report_of_one_trainer(data, compare):
    """Scores, failures and cost; nothing that needs a second method."""
    data.train("nnUNetTrainer", 0, shift=2)
    summary = compare("-d", 9, "-tr", "nnUNetTrainer")
    text = (data.root / "out" / "report.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        *("Dice", "NSD", "HD95 (mm), lower is better", "ASSD (mm), lower is better", "Failures"),
        *("Each method's mean and its spread", "Cost", "Pictures", "Small print", "How this was made"),
    ]
    assert summary["groups"][0]["paired"] == {}
    assert not (data.root / "out" / "paired.png").exists()
    assert "(fold 0)" in text


def test_a_class_that_is_never_predicted_is_visible_as_missed(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    for case in CASES[:6]:
        data.write(data.folder("nnUNetTrainer") / f"fold_0/validation/{case}.nii.gz", data.truth[case] % 2)
    summary = compare("-d", 9, "-tr", "nnUNetTrainer")
    text = (data.root / "out" / "report.md").read_text()
    assert "missed in 6 of 6" in text
    assert "none of 6" in text
    assert summary["groups"][0]["failures"]["nnUNetTrainer"]["two"]["missed"] == 6
    hd95 = summary["groups"][0]["methods"]["nnUNetTrainer"]["HD95"]
    assert hd95["mean"]["two"]["mean"] is None
    assert hd95["infinite"] == {"one": 0, "two": 6, "mean": 6}
    cases = (data.root / "out" / "per_case.csv").read_text()
    assert cases.count("two,HD95,inf") == 6


def test_few_shot_folds_are_grouped_by_their_training_cases(data, compare):
    assert cli.main(["fewshot", "-d", "9", "-n", "2", "3", "--draws", "2", "--test", *CASES[:2]]) == 0
    for fold in range(5):
        data.train("nnUNetTrainer", fold, shift=3, cases=CASES[:2])
        data.train("Other", fold, shift=fold % 3, cases=CASES[:2])
    report = compare("-d", 9, "-tr", "nnUNetTrainer", "Other")
    assert [(group["training_cases"], group["folds"]) for group in report["groups"]] == [
        (6, ["0"]),
        (3, ["3", "4"]),
        (2, ["1", "2"]),
    ]
    of_two = report["groups"][2]["methods"]["Other"]["Dice"]
    draws = [of_two["per_fold"][fold]["mean"] for fold in "12"]
    assert of_two["mean"]["mean"] == {"mean": np.mean(draws), "spread": np.std(draws, ddof=1), "n": 2}
    assert (data.root / "out" / "training_size.png").is_file()
    rows = csv.DictReader((data.root / "out" / "per_case.csv").read_text().splitlines())
    draws = {row["fold"]: row["draw"] for row in rows}
    assert draws == {"0": "", "1": "1", "2": "2", "3": "1", "4": "2"}
    protocol = data.preprocessed / "fewshot.json"
    protocol.write_text(protocol.read_text().replace('"case_3"', '"case_0"'))
    again = compare("-d", 9, "-tr", "nnUNetTrainer", "Other", "--overwrite")
    assert [group["title"] for group in again["groups"]] == ["5 folds"]
    assert "fewshot.json does not belong to the present splits_final.json" in "".join(again["notes"])
    assert not (data.root / "out" / "training_size.png").exists(), "is of the former report"
    # two cases, tested twice each, are two pairs
    assert report["groups"][2]["paired"]["Other"]["Dice"]["n"] == 2


def test_plain_folders_are_compared_on_the_cases_of_both(data, compare):
    for name, shift in (("a", 2), ("b", 1)):
        for case in CASES:
            data.write(data.root / name / f"{case}.nii.gz", np.roll(data.truth[case], shift, axis=2))
    (data.root / "b" / "case_7.nii.gz").unlink()
    folders = ("--predictions", data.root / "a", data.root / "b")
    report = compare(*folders, "--reference", data.preprocessed / "gt_segmentations", "-d", 9)
    assert list(report["groups"][0]["methods"]) == ["a", "b"]
    assert report["groups"][0]["cases"] == 7
    assert report["notes"] == ["a has the cases case_7, which another method lacks; they are left out."]


def test_identical_predictions_do_not_differ(data, compare):
    for trainer in ("nnUNetTrainer", "Other"):
        data.train(trainer, 0, shift=1)
    compare("-d", 9, "-tr", "nnUNetTrainer", "Other")
    assert "no case differs" in (data.root / "out" / "report.md").read_text()


def test_one_class_may_have_a_tolerance_of_its_own(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    report = compare("-d", 9, "-tr", "nnUNetTrainer", "--tolerance", 1, "two=8")
    scores = report["groups"][0]["methods"]["nnUNetTrainer"]["NSD"]["mean"]
    assert report["tolerance_mm"] == {"one": 1, "two": 8}
    assert scores["two"]["mean"] == 1 > scores["one"]["mean"]


def test_a_trainer_with_other_plans_is_a_method_of_its_own(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    data.train("nnUNetTrainer", 0, shift=1, plans="Other")
    report = compare("-d", 9, "-tr", "nnUNetTrainer", "nnUNetTrainer", "-p", "nnUNetPlans", "Other")
    assert list(report["groups"][0]["methods"]) == ["nnUNetTrainer nnUNetPlans", "nnUNetTrainer Other"]


def test_what_makes_it_unfair_is_said(data, compare):
    data.train("nnUNetTrainer", 0, shift=2, epochs=3)
    data.train("nnUNetTrainer", 1, shift=2)
    data.train("Other", 0, shift=1, epochs=2, cases=CASES[1:7])
    report = compare("-d", 9, "-tr", "nnUNetTrainer", "Other")
    said = "\n".join(report["notes"])
    assert "Fold 1 is left out: Other was not trained." in said
    assert "The trainings differ in epochs. nnUNetTrainer: 3; Other: 2." in said
    assert "nnUNetTrainer has the cases case_0 of fold 0, which another method lacks" in said
    assert all(note.splitlines()[0] in compare.output for note in report["notes"])


def test_nothing_is_overwritten_unasked(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    (data.root / "out").mkdir()
    mine = data.root / "out" / "mine.txt"
    mine.write_text("mine")
    assert "is not empty; name another folder, or replace its report with --overwrite" in compare(
        "-d", 9, "-tr", "nnUNetTrainer", status=1
    )
    compare("-d", 9, "-tr", "nnUNetTrainer", "--overwrite")
    assert mine.read_text() == "mine"


def test_a_checkpoint_with_code_is_not_run(data, compare):
    class Malicious:
        def __reduce__(self):
            return (open, (str(data.root / "ran"), "w"))

    data.train("nnUNetTrainer", 0, shift=2)
    path = data.folder("nnUNetTrainer") / "fold_0" / "checkpoint_final.pth"
    torch.save({"logging": Malicious()}, path)
    report = compare("-d", 9, "-tr", "nnUNetTrainer")
    assert report["cost"]["nnUNetTrainer"]["0"]["epochs"] is None
    assert not (data.root / "ran").exists()


def test_folders_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert list(by_name([Path("."), Path("b"), Path("link/")])) == [tmp_path.name, "b", "link"]
    assert list(by_name([Path("x/pred"), Path("y/pred")])) == ["x/pred", "y/pred"]
    assert list(by_name([Path("a"), Path("a/a")])) == ["a", "a/a"]


def test_overlays_that_cannot_be_drawn_are_left_out_and_the_report_is_written(data, compare, monkeypatch):
    def fail(*_):
        raise MemoryError("several\nlines")

    monkeypatch.setattr("nnunetv2_tpmamba.comparison.overlays.draw_case_pictures", fail)
    data.train("nnUNetTrainer", 0, shift=2)
    assert compare("-d", 9, "-tr", "nnUNetTrainer")["notes"] == ["The overlays are left out: several lines"]
    assert "Note: The overlays are left out: several lines" in compare.output
    assert not (data.root / "out" / "overlays.png").exists()


def test_images_that_dataset_json_lists_are_drawn(data, compare):
    """nnU-Net's way to name files that lie elsewhere, relative to the raw data set."""
    (data.raw / "imagesTr").rename(data.root / "elsewhere")
    listed = {case: {"images": [f"../../elsewhere/{case}_0000.nii.gz"], "label": "unused"} for case in CASES}
    (data.preprocessed / "dataset.json").write_text(json.dumps(DESCRIPTION | {"dataset": listed}))
    data.train("nnUNetTrainer", 0, shift=2)
    compare("-d", 9, "-tr", "nnUNetTrainer")
    assert "No image of" not in (data.root / "out" / "report.md").read_text()


def test_labels_stored_in_another_orientation_are_turned_as_the_models_reader_does(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    (data.folder("nnUNetTrainer") / "plans.json").write_text(
        json.dumps({"label_manager": "LabelManager", "image_reader_writer": "SimpleITKIOWithReorient"})
    )
    for case, orientation in zip(CASES[:2], ("RAS", "PIR"), strict=True):
        path = data.preprocessed / "gt_segmentations" / f"{case}.nii.gz"
        store_as(path, path, orientation)
    report = compare("-d", 9, "-tr", "nnUNetTrainer")
    summary = data.folder("nnUNetTrainer") / "fold_0" / "validation" / "summary.json"
    expected = json.loads(summary.read_text())["foreground_mean"]["Dice"]
    mean = report["groups"][0]["methods"]["nnUNetTrainer"]["Dice"]["mean"]["mean"]["mean"]
    assert mean == pytest.approx(expected)
    assert (data.root / "out" / "overlays.png").is_file()


def test_labels_at_another_place_by_their_headers_are_compared_as_nnunet_does(data, compare):
    """nnU-Net warns of them when it preprocesses, and trains, validates and scores voxel by voxel."""
    data.train("nnUNetTrainer", 0, shift=2)
    for case in CASES[:2]:
        path = str(data.preprocessed / "gt_segmentations" / f"{case}.nii.gz")
        label = SimpleITK.ReadImage(path)
        label.SetOrigin((0, 0.02, 0))
        SimpleITK.WriteImage(label, path)
    report = compare("-d", 9, "-tr", "nnUNetTrainer")
    assert any(note.startswith("The headers of case_0.nii.gz, case_1.nii.gz name another") for note in report["notes"])
    validation = data.folder("nnUNetTrainer") / "fold_0" / "validation"
    expected = json.loads((validation / "summary.json").read_text())["foreground_mean"]["Dice"]
    mean = report["groups"][0]["methods"]["nnUNetTrainer"]["Dice"]["mean"]["mean"]["mean"]
    assert mean == pytest.approx(expected)
    folders = ("--predictions", validation, "--reference", data.preprocessed / "gt_segmentations", "-d", 9)
    assert "has another origin than its truth" in compare(*folders, "--overwrite", status=1)
