"""A preprocessed data folder with its manifest, in which small text files stand for the images."""

import shutil
from copy import deepcopy
from pathlib import Path

from support.plans import DATASET_JSON, stock_plans

from nnunetv2_tpmamba.data.manifest import CASE_ENDINGS, CaseRecord, Manifest, SourceFile
from nnunetv2_tpmamba.data.planned_data import PlannedData
from nnunetv2_tpmamba.data.plans import derive_plans
from nnunetv2_tpmamba.data.survey import Survey


def planned_data(raw_folder=None, preprocessed_folder=Path("preprocessed")):
    plans = derive_plans(stock_plans(), "3d_fullres", DATASET_JSON)
    return PlannedData(plans, "3d_fullres", deepcopy(DATASET_JSON), raw_folder, preprocessed_folder)


class Made:
    """A data folder with two cases, each made from one image and its label; all files hold a few letters."""

    def __init__(self, base):
        self.raw = base / "raw"
        self.data = planned_data(raw_folder=self.raw, preprocessed_folder=base / "preprocessed")
        self.folder = self.data.folder
        for folder in (self.raw / "imagesTr", self.raw / "labelsTr", self.folder / ".tpmamba"):
            folder.mkdir(parents=True)
        (base / "preprocessed/gt_segmentations").mkdir()
        for case in ("a", "bb"):
            (self.raw / f"imagesTr/{case}_0000.nii").write_text("image")
            (self.raw / f"labelsTr/{case}.nii").write_text("label")
        self.manifest = Manifest(self.data.settings, {})
        for case, files in self.data.raw_cases().items():
            for ending in CASE_ENDINGS:
                (self.folder / f"{case}{ending}").write_text("data")
            shutil.copy(files.label, self.data.label_copy(case))
            sources = [SourceFile.of(path) for path in files.paths]
            self.manifest.cases[case] = CaseRecord(sources, [4, 4, 4], ["", "", ""])
        self.manifest.write(self.folder)

    def survey(self, data=None):
        return Survey.of(data or self.data, self.data.raw_cases())
