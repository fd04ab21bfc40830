"""The command compare in a process of its own, on many large cases."""

import json
import resource
import subprocess
import time

import numpy as np
import pytest
from support.nnunet import installed
from support.trained_datasets import Datasets


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
