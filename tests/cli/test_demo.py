"""The demo with stand-ins for nnU-Net's commands; tests/integration/test_demo.py runs the real ones."""

import argparse
import json
import re
import sys

import matplotlib.image
import numpy as np
import pytest
import SimpleITK
from support.raw_datasets import make_raw, snapshot

from nnunetv2_tpmamba.cli import console, demo
from nnunetv2_tpmamba.demo.workspace import MARKER, Workspace

FAKE_NNUNET = """
import json, os, pathlib, shutil, sys
name, args = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
raw, preprocessed, results = (pathlib.Path(os.environ["nnUNet_" + kind]) for kind in ("raw", "preprocessed", "results"))
dataset = next(raw.iterdir()).name
with open(os.environ["RECORD"], "a") as record:
    json.dump({"name": name, "args": args, "env": dict(os.environ)}, record); record.write("\\n")
if name == os.environ.get("FAIL"):
    print("something went wrong"); sys.exit(1)
if name == "nnUNetv2_plan_and_preprocess":
    (preprocessed / dataset).mkdir(parents=True)
    plans = {"configurations": {os.environ.get("PLANNED", "3d_fullres"): {}}}
    (preprocessed / dataset / "nnUNetPlans.json").write_text(json.dumps(plans))
elif name == "nnUNetv2_train":
    (results / dataset / "nnUNetTrainerTPMamba_demo__nnUNetPlans__3d_fullres" / "fold_0").mkdir(parents=True)
elif name == "nnUNetv2_predict":
    shutil.copytree(raw / dataset / "labelsTs", args[args.index("-o") + 1])
elif name == "nnUNetv2_evaluate_folder":
    labels = json.loads((raw / dataset / "dataset.json").read_text())["labels"].values()
    keys = [str(tuple(value) if isinstance(value, list) else value) for value in labels if value]
    cases = [
        {"prediction_file": str(path), "metrics": {key: {"Dice": 1.0} for key in keys}}
        for path in sorted(pathlib.Path(args[1]).glob("*.nii.gz"))
    ]
    (pathlib.Path(args[1]) / "summary.json").write_text(json.dumps({"metric_per_case": cases}))
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Replace nnU-Net's commands; returns a function that lists the calls so far."""
    programs, record = tmp_path / "programs", tmp_path / "record"
    programs.mkdir()
    for name in ("plan_and_preprocess", "train", "predict", "evaluate_folder"):
        script = programs / f"nnUNetv2_{name}"
        script.write_text(f"#!{sys.executable}\n{FAKE_NNUNET}")
        script.chmod(0o755)
    monkeypatch.setenv("RECORD", str(record))
    monkeypatch.setattr(console, "find_program", lambda name: str(programs / name))
    return lambda: [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


@pytest.fixture
def few_phantoms(monkeypatch):
    monkeypatch.setattr(demo, "PHANTOM_TRAINING", 3)
    monkeypatch.setattr(demo, "PHANTOM_UNSEEN", 1)


def run_demo(*arguments):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args(list(map(str, arguments))))


def make_images(folder, **changes):
    """A raw data set of three readable cases, stored feet first as many NIfTI files are."""
    make_raw(folder, training="abc", **changes)
    volume = np.zeros((6, 8, 10), np.int16)
    volume[2:4, 2:5, 3:6] = 1
    for path in folder.rglob("*.gz"):
        image = SimpleITK.GetImageFromArray(volume)
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        SimpleITK.WriteImage(image, str(path))
    return folder


def test_the_whole_demo_on_phantoms(tmp_path, commands, few_phantoms, capsys, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "/the/users/own")
    out = tmp_path / "out"
    assert run_demo("--out", out, "--epochs", 2, "--seed", 5) == 0

    calls = commands()
    assert [call["name"] for call in calls] == [
        "nnUNetv2_plan_and_preprocess",
        "nnUNetv2_train",
        "nnUNetv2_predict",
        "nnUNetv2_evaluate_folder",
    ]
    for call in calls:
        for kind in ("raw", "preprocessed", "results"):
            assert call["env"][f"nnUNet_{kind}"] == str(out / f"nnUNet_{kind}")
        assert call["env"]["TPMAMBA_DEMO_EPOCHS"] == "2"
        assert call["env"]["nnUNet_n_proc_DA"] == "1"
        assert call["env"]["TPMAMBA_DEMO_SEED"] == "5"
        assert call["env"]["nnUNet_extTrainer"].endswith("nnunetv2_tpmamba/trainers/plugin")
    assert "nnUNetTrainerTPMamba_demo" in calls[1]["args"]
    splits = json.loads((out / "nnUNet_preprocessed" / demo.PHANTOM / "splits_final.json").read_text())
    assert splits == [{"train": ["phantom_000", "phantom_001"], "val": ["phantom_002"]}]

    text = capsys.readouterr().out
    assert re.findall(r"\[(\d)/6\]", text) == list("123456")
    assert "$ nnUNetv2_train 700 3d_fullres 0 -tr nnUNetTrainerTPMamba_demo" in text
    assert re.search(r"phantom_003 +mean\n", text)
    assert re.search(r"kidney_left +1\.000 +1\.000\n", text)
    assert "It does not show the paper's accuracy" in text
    assert "-tr nnUNetTrainerTPMamba\n" in text
    assert (out / "demo.log").read_text() == text
    assert matplotlib.image.imread(out / "demo.png").shape[1] == 1080


def test_the_users_data_are_taken_and_left_alone(tmp_path, commands, capsys):
    data = make_images(tmp_path / "Dataset321_Mine")
    before = snapshot(data)
    out = tmp_path / "out"
    assert run_demo("--out", out, "--data", data) == 0
    assert snapshot(data) == before
    assert "TPMAMBA_DEMO_EPOCHS" not in commands()[0]["env"]
    assert commands()[1]["args"][0] == "321"
    splits = json.loads((out / "nnUNet_preprocessed" / "Dataset321_Mine" / "splits_final.json").read_text())
    assert splits == [{"train": ["a", "b"], "val": ["b"]}]
    assert "unseen: c\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"channel_names": {"0": "CT", "1": "PET"}, "channels": 2},
        {"channel_names": {"0": "T2"}},
        {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
    ],
)
def test_other_kinds_of_data_are_drawn_too(tmp_path, commands, changes):
    run_demo("--out", tmp_path / "out", "--data", make_images(tmp_path / "data", **changes))
    assert (tmp_path / "out" / "demo.png").is_file()


def test_what_cannot_be_drawn_is_scored_all_the_same(tmp_path, commands, capsys, monkeypatch):
    def fail(*_):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr("nnunetv2_tpmamba.comparison.pictures.draw_case_pictures", fail)
    assert run_demo("--out", tmp_path / "out", "--data", make_images(tmp_path / "data")) == 0
    output = capsys.readouterr().out
    assert "Picture: none, as the cases cannot be drawn (RuntimeError: no memory)" in output
    assert output.index("Dice of the unseen cases") < output.index("[6/6] Draw them")


def test_a_failed_step_is_named(tmp_path, commands, few_phantoms, monkeypatch):
    monkeypatch.setenv("FAIL", "nnUNetv2_train")
    with pytest.raises(RuntimeError, match=r"step 3 \(Train .*demo\.log.*\n  something went wrong"):
        run_demo("--out", tmp_path / "out")


def test_2d_data_are_refused(tmp_path, commands, monkeypatch):
    monkeypatch.setenv("PLANNED", "2d")
    with pytest.raises(RuntimeError, match="planned no 3d_fullres for these data; TP-Mamba needs 3D images"):
        run_demo("--out", tmp_path / "out", "--data", make_images(tmp_path / "data"))


def test_a_folder_with_other_things_is_refused_and_untouched(tmp_path, commands):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("text")
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="is not empty and was not made by this command; name another folder"):
        run_demo("--out", tmp_path / "thesis")
    with pytest.raises(ValueError, match=r"chapter\.tex is a file; name a folder"):
        run_demo("--out", tmp_path / "thesis" / "chapter.tex")
    assert snapshot(tmp_path) == before


def test_an_earlier_demo_is_made_anew_and_said(tmp_path, commands, few_phantoms, capsys):
    for _ in range(2):
        assert run_demo("--out", tmp_path / "out") == 0
    assert "out holds an earlier demo; its data, training" in capsys.readouterr().out


def test_of_an_earlier_demo_only_what_others_added_stays(tmp_path, commands):
    out = tmp_path / "out"
    run_demo("--out", out, "--data", make_images(tmp_path / "Dataset321_Mine"))
    others = [
        out / "notes.txt",
        out / "nnUNet_raw" / "Dataset001_Other" / "dataset.json",
        out / "nnUNet_results" / "Dataset321_Mine" / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0" / "model",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    told = []

    def log(text):
        told.append((text, (out / "demo.log").is_file()))

    Workspace(out, demo.PHANTOM).claim(None, log)
    assert told == [(f"{out} holds an earlier demo; its data, training, predictions and picture are replaced.", True)]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted([*others, out / MARKER])
    assert len(list((tmp_path / "Dataset321_Mine").rglob("*.gz"))) == 6


@pytest.mark.parametrize("content", ["", "[]", '{"dataset": "../../Dataset001_x"}', '{"dataset": "x"}'])
def test_a_damaged_marker_removes_nothing(tmp_path, content):
    (tmp_path / MARKER).write_text(content)
    (tmp_path / "demo.log").touch()
    with pytest.raises(ValueError, match=r"demo\.json is not as the demo writes it"):
        Workspace(tmp_path, demo.PHANTOM).claim(None, log=print)
    assert (tmp_path / "demo.log").is_file()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("out/data/demo", "--out .*demo lies inside --data .*data; name another folder with --out"),
        ("out/data", "--out .*data is --data; name another folder with --out"),
        ("out", "--data .*data lies inside --out .*out; name another folder with --out"),
    ],
)
def test_output_and_data_must_be_apart(tmp_path, commands, out, message):
    data = make_raw(tmp_path / "out" / "data")
    with pytest.raises(ValueError, match=message):
        run_demo("--out", tmp_path / out, "--data", data)
    assert not (data / "demo").exists()


def test_data_that_are_none_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="is not a folder; a raw nnU-Net data set"):
        run_demo("--out", tmp_path / "out", "--data", tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("epochs", ["0", "-1", "1.5", "many"])
def test_epochs_are_a_positive_number(epochs, capsys):
    with pytest.raises(SystemExit) as ended:
        run_demo("--epochs", epochs)
    assert ended.value.code == 2
    assert "is not a whole number of at least 1" in capsys.readouterr().err
