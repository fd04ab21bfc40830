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
@pytest.mark.timeout(3600)
def test_thirteen_methods_on_thirty_large_cases(tmp_path, monkeypatch):
    """14 classes, 200 x 200 x 150 voxels; prints time and memory, and that the second call measures nothing again."""
    methods = [f"method{index}" for index in range(13)]
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
        Datasets.write(tmp_path / "truth" / f"case{case}.nii.gz", labels)
        for index, method in enumerate(methods):
            moved = np.roll(labels, (generator.integers(4), index % 4, 1 + index // 4), axis=(0, 1, 2))
            Datasets.write(tmp_path / method / f"case{case}.nii.gz", moved)
    folders = ("--predictions", *(tmp_path / method for method in methods), "--reference", tmp_path / "truth")
    reports = []
    for name in ("first", "second"):
        options = ("--labels", tmp_path / "dataset.json", "-o", tmp_path / name, "-np", 2)
        started = time.monotonic()
        subprocess.run(installed("nnUNetv2_tpmamba", "compare", *folders, *options), check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{name} call: {time.monotonic() - started:.1f} s, largest process {used.ru_maxrss / 1e6:.2f} GB")
        print(f"processor time of all calls so far: {used.ru_utime + used.ru_stime:.1f} s")
        reports.append(json.loads((tmp_path / name / "summary.json").read_text()))
    assert reports[0] == reports[1]
    assert len(list((tmp_path / "cache" / "nnunetv2_tpmamba" / "metrics").iterdir())) == 30 * len(methods)
