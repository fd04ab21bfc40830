"""Builders of raw nnU-Net data sets: with noisy images and blobs as labels, or with empty files."""

import json
from itertools import cycle

import numpy as np
import SimpleITK
from support.images import store_as


def write_raw_dataset(
    folder,
    cases,
    shape=(12, 24, 24),
    spacing=(1.0, 1.0, 1.0),
    channels=("CT",),
    seed=0,
    labels=("one", "two"),
    ending=".nii.gz",
):
    """Write noisy images with a blob per label; ``shape`` and ``spacing`` (mm) are in the order (z, y, x)."""
    generator = np.random.default_rng(seed)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)

    def write(array, path):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(spacing[::-1])
        SimpleITK.WriteImage(image, path)

    for case in cases:
        label = np.zeros(shape, np.uint8)
        for value in range(1, len(labels) + 1):
            center = [int(generator.integers(size // 4, size - size // 4 + 1)) for size in shape]
            label[tuple(slice(max(c - 3, 0), c + 3) for c in center)] = value
        write(label, folder / "labelsTr" / f"{case}{ending}")
        for channel in range(len(channels)):
            image = generator.normal(0, 30, shape) + 80 * label - 100 * (label == 0)
            write(image.astype(np.int16), folder / "imagesTr" / f"{case}_{channel:04d}{ending}")
    description = {
        "channel_names": dict(enumerate(channels)),
        "labels": {"background": 0, **{name: value for value, name in enumerate(labels, 1)}},
        "numTraining": len(cases),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def link_cases(source, folder, number, orientations=(None,)):
    """Make a raw data set of the first training cases of another one, which has one channel.

    The cases are stored in ``orientations`` in turn; None leaves a case as it is.
    """
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
        for path, orientation in zip(sorted((source / name).iterdir())[:number], cycle(orientations), strict=False):
            if orientation is None:
                (folder / name / path.name).symlink_to(path.resolve())
            else:
                store_as(path, folder / name / path.name, orientation)
    description = json.loads((source / "dataset.json").read_text()) | {"numTraining": number}
    (folder / "dataset.json").write_text(json.dumps(description))


def make_raw(folder, training=("a", "b"), unseen=(), channels=1, ending=".nii.gz", **changes):
    """Write a raw data set whose image files are empty, for tests of names alone; return its folder."""
    for part, cases in (("Tr", training), ("Ts", unseen)):
        for kind in ("images", "labels"):
            (folder / f"{kind}{part}").mkdir(parents=True)
        for case in cases:
            for channel in range(channels):
                (folder / f"images{part}" / f"{case}_{channel:04d}{ending}").touch()
            (folder / f"labels{part}" / f"{case}{ending}").touch()
    description = {
        "channel_names": {str(i): "CT" for i in range(channels)},
        "labels": {"background": 0, "organ": 1},
        "numTraining": len(training),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps({**description, **changes}))
    return folder


def snapshot(folder):
    """The date of each file and folder below ``folder``; equal snapshots mean that nothing was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}
