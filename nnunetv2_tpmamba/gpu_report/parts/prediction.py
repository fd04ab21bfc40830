"""``nnUNetv2_predict`` with its stock settings, on an image that the training did not see."""

import math
import time

import numpy as np
import SimpleITK

from nnunetv2_tpmamba.gpu_report.work import CONFIGURATION, DATASET, Work

CHECKPOINT = "checkpoint_final.pth"


def measure(work: Work) -> None:
    notebook = work.notebook
    images, predicted = work.raw / "imagesTs", work.folder / "predicted"
    name = min(path.name for path in (work.raw / "labelsTs").iterdir()).removesuffix(".nii.gz")
    started = time.monotonic()
    work.run(
        *("nnUNetv2_predict", "-i", images, "-o", predicted, "-d", DATASET[7:10], "-c", CONFIGURATION, "-f", 0),
        *("-tr", work.trainer, "-chk", CHECKPOINT, "-device", work.setting.device.type, "-npp", 1, "-nps", 1),
    )
    notebook.note("nnUNetv2_predict, one image, start included", round(time.monotonic() - started, 1), "s")
    image, labels, truth = (
        SimpleITK.ReadImage(str(file))
        for file in (
            *(images / f"{name}_0000.nii.gz", predicted / f"{name}.nii.gz"),
            work.raw / "labelsTs" / f"{name}.nii.gz",
        )
    )
    size = [round(n * spacing) for n, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    notebook.note("the image", " x ".join(map(str, size)), "mm")
    same = image.GetSize() == labels.GetSize() and all(
        math.isclose(a, b, abs_tol=1e-3) for a, b in zip(image.GetOrigin(), labels.GetOrigin(), strict=True)
    )
    notebook.check("the prediction lies on the image's grid", same)
    found, true = (SimpleITK.GetArrayFromImage(x) > 0 for x in (labels, truth))
    overlap = 2 * np.count_nonzero(found & true) / max(1, np.count_nonzero(found) + np.count_nonzero(true))
    notebook.note("Dice of all organs together, after few iterations from random weights", round(float(overlap), 3))
