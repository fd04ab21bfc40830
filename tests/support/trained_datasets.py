"""A data set with folds that look as nnU-Net's trainings leave them."""

import json

import numpy as np
import SimpleITK
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

NAME = "Dataset009_Boxes"
DESCRIPTION = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "one": 1, "two": 2},
    "numTraining": 8,
    "file_ending": ".nii.gz",
}
CASES = [f"case_{index}" for index in range(8)]


class Datasets:
    """One dataset with truth and raw images, and trained folds made by hand, with nnU-Net's own evaluation."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.raw, self.preprocessed, self.results = (root / part / NAME for part in ("raw", "pre", "res"))
        for variable in ("raw", "preprocessed", "results"):
            getattr(self, variable).mkdir(parents=True)
            monkeypatch.setenv(f"nnUNet_{variable}", str(getattr(self, variable).parent))
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        (self.preprocessed / "dataset.json").write_text(json.dumps(DESCRIPTION))
        (self.preprocessed / "splits_final.json").write_text(json.dumps([{"train": CASES[6:], "val": CASES[:6]}]))
        self.truth = {}
        for index, case in enumerate(CASES):
            labels = np.zeros((12, 16, 16), np.uint8)
            labels[2:8, 2 + index % 4 : 9, 3:9] = 1
            labels[4:10, 9:14, 8:14] = 2
            self.truth[case] = labels
            self.write(self.preprocessed / "gt_segmentations" / f"{case}.nii.gz", labels)
            self.write(self.raw / "imagesTr" / f"{case}_0000.nii.gz", labels.astype(np.int16) * 100)

    @staticmethod
    def write(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing((1.0, 1.5, 2.0))
        SimpleITK.WriteImage(image, str(path))

    def folder(self, trainer, plans="nnUNetPlans"):
        return self.results / f"{trainer}__{plans}__3d_fullres"

    def train(self, trainer, fold, shift, cases=CASES[:6], epochs=3, labels=None, plans="nnUNetPlans"):
        """Predictions are the truth moved by ``shift`` voxels."""
        folder = self.folder(trainer, plans)
        validation = folder / f"fold_{fold}" / "validation"
        for index, case in enumerate(cases):
            moved = np.roll(self.truth[case], shift + index % 2, axis=2)
            self.write(validation / f"{case}.nii.gz", moved)
        (folder / "dataset.json").write_text(json.dumps(DESCRIPTION | ({"labels": labels} if labels else {})))
        (folder / "plans.json").write_text(json.dumps({"label_manager": "LabelManager"}))
        truth = self.preprocessed / "gt_segmentations"
        compute_metrics_on_folder(
            *map(str, (truth, validation, validation / "summary.json")), SimpleITKIO(), ".nii.gz", [1, 2], None, 1
        )
        parameter = torch.nn.Parameter(torch.zeros(10, 3))
        optimizer = torch.optim.SGD([parameter], momentum=0.9)
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        logged = {"mean_fg_dice": [np.float32(0.1 * (e + 1)) for e in range(epochs)]}
        logged |= {"epoch_start_timestamps": [60.0 * e for e in range(epochs)]}
        logged |= {"epoch_end_timestamps": [60.0 * e + 30 for e in range(epochs)]}
        weights = {"a": parameter.data, "same": parameter.data, "frozen": torch.zeros(70)}
        checkpoint = {"network_weights": weights, "optimizer_state": optimizer.state_dict(), "logging": logged}
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
