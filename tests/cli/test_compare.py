"""The verbs fewshot and compare: on folders as nnU-Net leaves them, and after its real commands."""

import csv
import json
import math
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from support.trained_datasets import CASES, DESCRIPTION, NAME, Datasets

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.cli.compare import by_name, ranked

PROGRAM = Path(sys.executable).with_name("nnUNetv2_tpmamba")


def test_two_trainers(data, compare):
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


def test_the_table_of_cases(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    compare("-d", 9, "-tr", "nnUNetTrainer")
    rows = list(csv.DictReader((data.root / "out" / "per_case.csv").read_text().splitlines()))
    summary = json.loads((data.folder("nnUNetTrainer") / "fold_0/validation/summary.json").read_text())
    expected = [case["metrics"][key]["Dice"] for case in summary["metric_per_case"] for key in "12"]
    assert [float(row["Dice"]) for row in rows] == expected
    assert [row["case"] for row in rows] == [case for case in CASES[:6] for _ in range(2)]


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
    protocol = data.preprocessed / "fewshot.json"
    for damaged in ("{", '{"folds": [{}]}', protocol.read_text().replace('"case_3"', '"case_0"')):
        protocol.write_text(damaged)
        again = compare("-d", 9, "-tr", "nnUNetTrainer", "Other", "--overwrite")
        assert [group["title"] for group in again["groups"]] == ["5 folds"]
        assert "fewshot.json does not belong to the present splits_final.json" in "".join(again["notes"])
        assert not (data.root / "out" / "training_size.png").exists(), "is of the former report"
    # two cases, tested twice each, are two pairs
    assert report["groups"][2]["paired"]["Other"]["Dice"]["n"] == 2


def test_plain_folders(data, compare):
    for name, shift in (("a", 2), ("b", 1)):
        for case in CASES:
            data.write(data.root / name / f"{case}.nii.gz", np.roll(data.truth[case], shift, axis=2))
    (data.root / "b" / "case_7.nii.gz").unlink()
    folders = ("--predictions", data.root / "a", data.root / "b")
    report = compare(*folders, "--reference", data.preprocessed / "gt_segmentations", "-d", 9)
    assert list(report["groups"][0]["methods"]) == ["a", "b"]
    assert report["groups"][0]["cases"] == 7
    assert report["notes"] == ["Only a has the cases case_7; they are left out."]


def test_identical_predictions_do_not_differ(data, compare):
    for trainer in ("nnUNetTrainer", "Other"):
        data.train(trainer, 0, shift=1)
    compare("-d", 9, "-tr", "nnUNetTrainer", "Other")
    assert "no difference in any of 6 cases" in (data.root / "out" / "report.md").read_text()


def test_tolerance_of_one_class(data, compare):
    data.train("nnUNetTrainer", 0, shift=2)
    report = compare("-d", 9, "-tr", "nnUNetTrainer", "--tolerance", 1, "two=8")
    scores = report["groups"][0]["methods"]["nnUNetTrainer"]["NSD"]["mean"]
    assert report["tolerance_mm"] == {"one": 1, "two": 8}
    assert scores["two"]["mean"] == 1 > scores["one"]["mean"]


def test_the_same_trainer_with_other_plans(data, compare):
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
    assert "Only nnUNetTrainer has the cases case_0 of fold 0" in said
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


def test_as_many_cases_are_shown_as_there_are_up_to_three():
    dice = {"a": 0.5, "b": 0.9, "c": math.nan, "d": 0.7}
    assert list(ranked(dice).items()) == [("b", "best: "), ("d", "median: "), ("a", "worst: ")]
    assert ranked({"a": 0.5, "b": 0.9}) == {"b": "best: ", "a": "worst: "}
    assert ranked({"a": 0.5, "c": math.nan}) == {"a": ""}
    assert ranked({"c": math.nan}) == {}


def test_names_of_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert list(by_name([Path("."), Path("b"), Path("link/")])) == [tmp_path.name, "b", "link"]
    assert list(by_name([Path("x/pred"), Path("y/pred")])) == ["x/pred", "y/pred"]
    assert list(by_name([Path("a"), Path("a/a")])) == ["a", "a/a"]


class TestOverlays:
    """Whatever is wrong with the images, the report is written."""

    @pytest.fixture
    def folders(self, data):
        """Two methods in plain folders; returns the arguments that compare them."""
        for name, shift in (("a", 2), ("b", 1)):
            for index, case in enumerate(CASES[:5]):
                moved = np.roll(data.truth[case], shift * (1 + index % 2), axis=2)
                data.write(data.root / name / f"{case}.nii.gz", moved)
        reference = data.preprocessed / "gt_segmentations"
        return ["--predictions", data.root / "a", data.root / "b", "--reference", reference, "-d", "9"]

    def test_without_images_it_says_how_to_name_them(self, data, compare, folders):
        assert compare(*folders)["notes"] == []
        text = (data.root / "out" / "report.md").read_text()
        assert re.search(
            r"No image of case_\d, case_\d, case_\d was found; name the folder of images with --images", text
        )

    def test_damaged_images(self, data, compare, folders):
        images = data.raw / "imagesTr"
        for path in images.iterdir():
            path.write_bytes(b"")
        notes = compare(*folders, "--images", images)["notes"]
        assert sum("is drawn without its image: " in note and "cannot be read" in note for note in notes) == 3
        assert (data.root / "out" / "overlays.png").is_file()

    def test_what_cannot_be_drawn_is_left_out(self, data, compare, folders, monkeypatch):
        def fail(*_):
            raise MemoryError("several\nlines")

        monkeypatch.setattr("nnunetv2_tpmamba.comparison.pictures.draw_case_pictures", fail)
        assert "The overlays are left out: several lines" in compare(*folders)["notes"]
        assert "Note: The overlays are left out: several lines" in compare.output
        assert not (data.root / "out" / "overlays.png").exists()

    def test_dice_stands_with_its_method(self, data, compare, folders, monkeypatch):
        drawn = []
        monkeypatch.setattr(
            "nnunetv2_tpmamba.comparison.pictures.draw_case_pictures",
            lambda cases, _, path: (drawn.extend(cases), path.write_bytes(b"")),
        )
        compare(*folders)
        rows = list(csv.DictReader((data.root / "out" / "per_case.csv").read_text().splitlines()))
        for shown in drawn:
            case = shown.title.split(": ")[1]
            expected = [
                np.mean([float(row["Dice"]) for row in rows if (row["method"], row["case"]) == (method, case)])
                for method in "ab"
            ]
            assert list(shown.predictions) == [f"{m}, Dice {d:.3f}" for m, d in zip("ab", expected, strict=True)]

    def test_2d_images(self, data, compare, tmp_path):
        for case in CASES[:4]:
            labels = data.truth[case][5]
            for folder, array in (("truth", labels), ("a", np.roll(labels, 1, 0)), ("images", labels * 100)):
                (tmp_path / folder).mkdir(exist_ok=True)
                name = f"{case}_0000.png" if folder == "images" else f"{case}.png"
                SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / folder / name))
        description = {"channel_names": {"0": "grey"}, "labels": DESCRIPTION["labels"], "file_ending": ".png"}
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        folders = ["--predictions", tmp_path / "a", "--reference", tmp_path / "truth", "--images", tmp_path / "images"]
        assert compare(*folders, "--labels", tmp_path / "dataset.json")["notes"] == []
        assert (data.root / "out" / "overlays.png").is_file()


class TestRefusals:
    def test_trainer_without_results(self, data, compare):
        data.train("nnUNetTrainer", 0, shift=2)
        message = compare("-d", 9, "-tr", "nnUNetTrainer", "Other", status=1)
        assert "Other has no results with nnUNetPlans and 3d_fullres" in message
        assert "choose of nnUNetTrainer__nnUNetPlans__3d_fullres" in message

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
        assert "there is no case of fold 0 that all" in compare("-d", 9, "-tr", "nnUNetTrainer", "Other", status=1)

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

    @pytest.mark.parametrize("out", ["pred", "pred/report", "truth", "images", "."])
    def test_a_report_among_what_is_compared(self, data, out, capsys):
        for folder in ("pred", "truth"):
            data.write(data.root / "work" / folder / "case_0.nii.gz", data.truth["case_0"])
        work = data.root / "work"
        (work / "images").mkdir()
        before = sorted(work.rglob("*"))
        folders = ["--predictions", work / "pred", "--reference", work / "truth", "--images", work / "images"]
        arguments = ["compare", *folders, "-d", 9, "-o", work / out, "--overwrite", "-np", 1]
        assert cli.main(list(map(str, arguments))) == 1
        assert "lie in each other; name another folder with -o" in capsys.readouterr().err
        assert sorted(work.rglob("*")) == before

    @pytest.mark.parametrize("tolerance", ["0", "-1", "wide", "three=1", "one="])
    def test_tolerance(self, data, compare, tolerance):
        data.train("nnUNetTrainer", 0, shift=2)
        assert f"--tolerance {tolerance}: " in compare(
            "-d", 9, "-tr", "nnUNetTrainer", f"--tolerance={tolerance}", status=1
        )


@pytest.mark.timeout(1800)
def test_after_nnunets_own_commands(real_data, nnunet):
    """Few-shot splits on real CTs, both trainers on fold 0 and two draws of 3 by the script, and their comparison."""
    name = "Dataset702_HeadNeckCrop"
    (nnunet.raw / name).symlink_to(real_data / name)
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 702, "-c", "3d_fullres", "-np", 2, "-npfp", 2)
    trainers = ("nnUNetTrainer_short", "nnUNetTrainerTPMamba_small_short")
    script = nnunet.raw.parent / "trainings.sh"
    protocol = ("-d", 702, "-n", 3, "--draws", 2, "--test", 2)
    nnunet.run("nnUNetv2_tpmamba", "fewshot", *protocol, "-tr", *trainers, "--script", script)
    trainings = re.findall(r"'nnUNetv2_train (.*)'", script.read_text())
    assert len(trainings) == 6
    for training in trainings:
        nnunet.run("nnUNetv2_train", *training.split(), "-device", "cpu")
    out = nnunet.raw.parent / "out"
    nnunet.run("nnUNetv2_tpmamba", "compare", "-d", 702, "-tr", *trainers, "-o", out, "-np", 2)
    report = json.loads((out / "summary.json").read_text())
    assert [group["folds"] for group in report["groups"]] == [["0"], ["1", "2"]]
    assert report["notes"] == []
    for group in report["groups"]:
        for trainer in trainers:
            for fold in group["folds"]:
                validation = nnunet.results / name / f"{trainer}__nnUNetPlans__3d_fullres" / f"fold_{fold}/validation"
                theirs = json.loads((validation / "summary.json").read_text())["foreground_mean"]["Dice"]
                assert group["methods"][trainer]["Dice"]["per_fold"][fold]["mean"] == theirs
                assert report["cost"][trainer][fold]["epochs"] == 1
                assert (report["cost"][trainer][fold]["peak_memory_gb"] is None) == (trainer == trainers[0])


@pytest.mark.slow
def test_thirty_large_cases(tmp_path, monkeypatch):
    """14 classes, 200 x 200 x 150 voxels; prints time and memory, and that the second call measures nothing again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    classes = {f"class{index}": index for index in range(1, 15)}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0} | classes, "file_ending": ".nii.gz"})
    )
    generator = np.random.default_rng(0)
    grid = np.meshgrid(*map(np.arange, (150, 200, 200)), indexing="ij", sparse=True)
    for case in range(30):
        labels = np.zeros((150, 200, 200), np.uint8)
        for value in classes.values():
            center, radii = generator.uniform(30, 120, 3), generator.uniform(12, 35, 3)
            labels[sum(((g - c) / r) ** 2 for g, c, r in zip(grid, center, radii, strict=True)) < 1] = value
        for folder, array in (("truth", labels), ("prediction", np.roll(labels, 2, axis=1))):
            Datasets.write(tmp_path / folder / f"case{case}.nii.gz", array)
    folders = ("--predictions", tmp_path / "prediction", "--reference", tmp_path / "truth")
    reports = []
    for name in ("first", "second"):
        command = [
            PROGRAM,
            "compare",
            *folders,
            "--labels",
            tmp_path / "dataset.json",
            "-o",
            tmp_path / name,
            "-np",
            "2",
        ]
        started = time.monotonic()
        subprocess.run(command, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"{name} call: {time.monotonic() - started:.1f} s, largest process {peak:.2f} GB")
        reports.append(json.loads((tmp_path / name / "summary.json").read_text()))
    assert reports[0] == reports[1]
    assert len(list((tmp_path / "cache" / "nnunetv2_tpmamba" / "metrics").iterdir())) == 30
