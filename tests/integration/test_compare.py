"""The command compare in processes of its own: after nnU-Net's real commands, and on many large cases."""

import json
import re
import resource
import subprocess
import time

import numpy as np
import pytest
from support.nnunet import installed, model_folder
from support.trained_datasets import Datasets


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
                validation = model_folder(nnunet.results, name, trainer) / f"fold_{fold}" / "validation"
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
        options = ("--labels", tmp_path / "dataset.json", "-o", tmp_path / name, "-np", 2)
        started = time.monotonic()
        subprocess.run(installed("nnUNetv2_tpmamba", "compare", *folders, *options), check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"{name} call: {time.monotonic() - started:.1f} s, largest process {peak:.2f} GB")
        reports.append(json.loads((tmp_path / name / "summary.json").read_text()))
    assert reports[0] == reports[1]
    assert len(list((tmp_path / "cache" / "nnunetv2_tpmamba" / "metrics").iterdir())) == 30
