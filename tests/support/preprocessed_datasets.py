"""A planned data set, one call that preprocesses it, and what stands in for its processes."""

import json
import os
import signal
from concurrent.futures import Future

import numpy as np
import SimpleITK
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from support.plans import stock_plans

from nnunetv2_tpmamba.data.planned_data import PlannedData
from nnunetv2_tpmamba.data.plans import derive_plans
from nnunetv2_tpmamba.data.preprocessing import ensure_preprocessed

DATASET = "Dataset001_Test"
ENDINGS = (".b2nd", "_seg.b2nd", ".pkl")


class Dataset:
    """A raw dataset, its planned folder, and one call that preprocesses it."""

    def __init__(self, base, dataset_json=None, plans=None):
        self.raw = base / "raw" / DATASET
        self.preprocessed = base / "preprocessed" / DATASET
        self.dataset_json = dataset_json or {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "organ": 1},
            "file_ending": ".nii",  # not compressed: another content may have the same size
        }
        self.plans = derive_plans(plans or stock_plans(), "3d_fullres", self.dataset_json)
        self.log = []

    @property
    def folder(self):
        return self.preprocessed / "nnUNetPlans_3d_fullres_tpmamba"

    def create(self):
        for folder in (self.raw / "imagesTr", self.raw / "labelsTr", self.preprocessed):
            folder.mkdir(parents=True)
        (self.preprocessed / "dataset.json").write_text(json.dumps(self.dataset_json))
        (self.preprocessed / "nnUNetPlans.json").write_text(json.dumps(stock_plans()))
        return self

    def add_case(self, case, image=None, label=None, spacing=(2, 2, 2.5), channels=1):
        if image is None:
            image = np.random.default_rng(len(case)).normal(0, 300, (8, 10, 9))
        if label is None:
            label = np.zeros(image.shape, np.uint8)
            label[image.shape[0] // 3 :, 2:6, 2:6] = 1
        ending = self.dataset_json["file_ending"]
        for channel in range(channels):
            self.write_image(f"imagesTr/{case}_{channel:04d}{ending}", image.astype(np.float32), spacing)
        self.write_image(f"labelsTr/{case}{ending}", label, spacing)

    def write_image(self, name, array, spacing=(2, 2, 2.5)):
        nifti = SimpleITK.GetImageFromArray(array)
        nifti.SetSpacing(spacing)
        SimpleITK.WriteImage(nifti, str(self.raw / name))

    def planned(self, **changes):
        values = {"raw_folder": self.raw, "preprocessed_folder": self.preprocessed} | changes
        return PlannedData(self.plans, "3d_fullres", self.dataset_json, **values)

    def ensure(self, num_processes=2, verify=False, **changes):
        self.log = []
        data = self.planned(**changes)
        return ensure_preprocessed(data, num_processes=num_processes, log=self.log.append, verify=verify)

    def load(self, case):
        data, seg, _, properties = infer_dataset_class(str(self.folder))(str(self.folder), [case]).load_case(case)
        return data[:], seg[:], properties

    def made_at(self):
        """When each file was made; a file made again differs."""
        return {path.name: path.stat().st_mtime_ns for path in self.folder.iterdir() if path.is_file()}

    def made_again(self, before):
        """The cases whose files are not the ones of ``before``."""
        after = self.made_at()
        return {
            name.removesuffix(".pkl") for name in after if name.endswith(".pkl") and after[name] != before.get(name)
        }


def three_cases(base):
    """Three small cases, preprocessed."""
    dataset = Dataset(base).create()
    for case in ("a", "bb", "ccc"):
        dataset.add_case(case)
    dataset.ensure()
    return dataset


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class SequentialPool:
    """Stands in for ProcessPoolExecutor: runs what is submitted at once, in this process."""

    def __init__(self, *args, **kwargs):
        pass

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except RuntimeError as error:
            future.set_exception(error)
        return future

    def shutdown(self, **kwargs):
        pass


def die(*args, **kwargs):
    """Stands in for a worker's task that runs out of memory; a spawned worker imports it by its name."""
    os.kill(os.getpid(), signal.SIGKILL)
