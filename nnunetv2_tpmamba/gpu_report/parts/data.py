"""What the parts that train and predict need: a SAM file of random weights, and crops of phantoms, planned, at 1 mm."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import find_objects

from nnunetv2_tpmamba.benchmark.encoder import sam_encoder
from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.demo.phantom import Scan, abdomen, write_dataset
from nnunetv2_tpmamba.gpu_report.work import CONFIGURATION, DATASET, Work

TRAINING, UNSEEN = 2, 1
CROP_MM = 140.0  # side of the cubes that are cut out, around the organs; a patch is 96 mm


def measure(work: Work) -> None:
    if not work.setting.small:  # the small trainer reads none
        write_random_sam(work.sam_file, TPMambaConfig())
    started = time.monotonic()
    cases: list[str] = []
    write_dataset(work.raw, TRAINING, UNSEEN, on_case=cases.append, scan_of=lambda seed: cropped(abdomen(seed)))
    work.notebook.note(f"{TRAINING + UNSEEN} phantoms", round(time.monotonic() - started, 1), "s")
    started = time.monotonic()
    work.run("nnUNetv2_plan_and_preprocess", "-d", DATASET[7:10], "-c", CONFIGURATION, "--no_pp", "-npfp", 2)
    folds = [{"train": cases[: TRAINING - 1], "val": cases[TRAINING - 1 : TRAINING]}]
    (work.preprocessed / "splits_final.json").write_text(json.dumps(folds))
    work.notebook.note("nnUNetv2_plan_and_preprocess --no_pp", round(time.monotonic() - started, 1), "s")
    if work.setting.small:  # the small trainer makes its own data at its own spacing
        return
    started = time.monotonic()
    work.run("nnUNetv2_tpmamba", "preprocess", "-d", DATASET[7:10], "-np", 2)
    work.notebook.note(f"nnUNetv2_tpmamba preprocess of {TRAINING} cases", round(time.monotonic() - started, 1), "s")


def write_random_sam(file: Path, config: TPMambaConfig) -> None:
    """Write an encoder of random weights in the layout of Meta's file."""
    torch.manual_seed(0)
    encoder = sam_encoder(config, torch.device("cpu"))
    state = {f"image_encoder.{name.replace('.mlp.fc', '.mlp.lin')}": x for name, x in encoder.state_dict().items()}
    torch.save(state, file)


def cropped(scan: Scan) -> Scan:
    """Cut a cube of ``CROP_MM`` out of a scan, in the middle of its organs."""
    (organs,) = find_objects((scan.label > 0).astype(np.uint8))
    cut = []
    for around, size, spacing in zip(organs, scan.label.shape, scan.spacing, strict=True):
        side = min(size, round(CROP_MM / spacing))
        start = min(max(0, (around.start + around.stop - side) // 2), size - side)
        cut.append(slice(start, start + side))
    origin = tuple(
        corner + part.start * step
        for corner, part, step in zip(scan.origin, reversed(cut), reversed(scan.spacing), strict=True)
    )
    return Scan(scan.image[tuple(cut)], scan.label[tuple(cut)], scan.spacing, origin)
