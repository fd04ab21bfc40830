"""Hundreds of odd data sets: what nnU-Net accepts, every command handles alike or refuses in a sentence before work."""

import json
import re
import tempfile
import warnings
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import Phase, event, given, settings
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from support.damage import EXAMPLES
from support.odd_datasets import CLASSES, in_one_process, odd_datasets, stock_accepts, write
from support.plans import stock_plans
from support.preprocessed_datasets import SequentialPool

from nnunetv2_tpmamba.comparison.gather import Gathered
from nnunetv2_tpmamba.comparison.overlays import overlays
from nnunetv2_tpmamba.comparison.results import Group
from nnunetv2_tpmamba.comparison.runs import Run
from nnunetv2_tpmamba.comparison.scoring import score_runs
from nnunetv2_tpmamba.data import workers
from nnunetv2_tpmamba.data.cases import files_of_cases, find_images, listed_cases, taken_for_labels
from nnunetv2_tpmamba.data.labels import Labels
from nnunetv2_tpmamba.data.planned_data import PlannedData
from nnunetv2_tpmamba.data.plans import derive_plans
from nnunetv2_tpmamba.data.preprocessing import ensure_preprocessed
from nnunetv2_tpmamba.data.raw_dataset import RawDataset
from nnunetv2_tpmamba.study.few_shot_splits import classes_of_cases

NAME = "Dataset001_Odd"
DATASETS_EXAMPLES = 60
REFUSED = (ValueError, OSError)  # in one sentence; anything else is a bug
RAW_ERROR = re.compile(r"KeyError|TypeError|AttributeError|IndexError|Traceback|NoneType|object is not|not support")


class Work:
    """One data set on its way through nnU-Net's folders."""

    def __init__(self, root, odd):
        self.odd = odd
        self.raw, self.preprocessed = (root / part / NAME for part in ("raw", "preprocessed"))
        self.preprocessed.mkdir(parents=True)
        self.held = write(odd, self.raw)
        self.description = json.loads((self.raw / "dataset.json").read_text())
        self.classes = CLASSES[odd.kind][1]
        self.log = []

    @property
    def truth(self):
        return self.preprocessed / "gt_segmentations"

    @property
    def reader(self):
        """As nnU-Net's planner finds it, unless it stumbles over what macOS left."""
        cases = listed_cases(self.raw, self.description)
        example = next(files.images[0] for case, files in cases.items() if not case.startswith("._"))
        return determine_reader_writer_from_dataset_json(self.description, example, verbose=False)

    def preprocess(self):
        """As the verb and a training do; returns the data folder."""
        plans = stock_plans(dataset_name=NAME, image_reader_writer=self.reader.__name__)
        settings = plans["configurations"]["3d_fullres"]
        settings["normalization_schemes"] = ["CTNormalization"] * self.odd.channels
        settings["use_mask_for_norm"] = [False] * self.odd.channels
        plans["foreground_intensity_properties_per_channel"]["1"] = {}
        (self.preprocessed / "dataset.json").write_text(json.dumps(self.description))
        derived = derive_plans(plans, "3d_fullres", self.description)
        data = PlannedData(derived, "3d_fullres", self.description, self.raw, self.preprocessed)
        return ensure_preprocessed(data, num_processes=1, log=self.log.append)

    def validate(self, folder):
        """Predict as nnU-Net's final validation does, wrongly by a voxel, and let nnU-Net score it."""
        folder.mkdir(parents=True)
        reader, ending = self.reader(), self.odd.ending
        labels = self.reading_labels()
        for case, files in listed_cases(self.raw, self.description).items():
            _, properties = reader.read_images(files.images)
            prediction = np.roll(reader.read_seg(files.label)[0][0], 1, axis=1)
            prediction[prediction == labels.ignore_label] = 0
            reader.write_seg(prediction.astype(np.uint8), str(folder / f"{case}{ending}"), properties)
        values = list(labels.classes.values())
        summary = compute_metrics_on_folder(
            str(self.truth), str(folder), None, reader, ending, values, labels.ignore_label, 1
        )
        names = dict(zip(values, labels.classes, strict=True))
        return {
            Path(case["prediction_file"]).name.removesuffix(ending): {
                names[value]: of["Dice"] for value, of in case["metrics"].items()
            }
            for case in summary["metric_per_case"]
        }

    def reading_labels(self):
        return Labels.of(self.description)

    def compare(self, folder):
        """Dice of each case and class as ``compare`` finds it for a training."""
        run = Run("method", "0", files_of_cases(folder, self.odd.ending))
        labels, groups = self.reading_labels(), (Group("fold 0", ("0",)),)
        gathered = Gathered("", [run], labels, groups, (), self.truth, self.description, NAME)
        results = score_runs(gathered, dict.fromkeys(labels.classes, 1.0), 1, folder.parent / "cache")
        (scores,) = results.scores.values()
        pictures, notes = overlays(results, gathered, find_images(self.raw, self.description))
        assert "No image" not in "".join(caption for caption, _ in pictures.values())
        assert not [note for note in notes if "left out" in note or "without its image" in note]
        return {case: {name: of["Dice"] for name, of in classes.items()} for case, classes in scores.items()}


@settings(max_examples=DATASETS_EXAMPLES, phases=(Phase.explicit, Phase.generate), **EXAMPLES)
@given(odd_datasets())
def test_what_nnunet_accepts_is_handled_alike_or_refused_before_work(odd):
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for replacement in (*in_one_process(), patch.object(workers, "ProcessPoolExecutor", SequentialPool)):
            stack.enter_context(replacement)
        stack.enter_context(redirect_stdout(StringIO()))
        stack.enter_context(redirect_stderr(StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Mean of empty slice")  # nnU-Net's, where no case has a class
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as a box
        work = Work(root, odd)
        accepted = stock_accepts(work.raw)
        event(f"nnU-Net accepts it: {accepted}")
        try:
            folder, failure = work.preprocess(), None
        except (*REFUSED, RuntimeError) as error:
            failure = error
        if failure is None:
            event("handled")
            check_data(work, folder)
            if accepted:
                expected = work.validate(root / "validation")
                assert work.compare(root / "validation") == {
                    case: pytest.approx(of, nan_ok=True) for case, of in expected.items()
                }
                RawDataset.read(work.raw).link(root / "linked")
                assert stock_accepts(root / "linked")
            return
        event(f"refused before work: {isinstance(failure, REFUSED)}")
        assert not RAW_ERROR.search(str(failure)), failure
        assert isinstance(failure, REFUSED) != any(work.preprocessed.glob("*_tpmamba*"))
        assert not accepted or (isinstance(failure, REFUSED) and has_reason_to_refuse(odd)), failure


def has_reason_to_refuse(odd):
    """Though nnU-Net accepts it, its training fails, or overwrites labels or loses predictions because of a name."""
    overwritten = any(f"{case}_seg" in odd.cases for case in odd.cases)
    renamed = odd.ending == ".nii.gz" and any(case.endswith((".nii", ".nii.gz")) for case in odd.cases)
    return odd.kind in ("regions as text", "a fraction") or overwritten or renamed


def check_data(work, folder):
    """The folder holds the cases, nnU-Net finds all that are not overlooked, and their classes are as written."""
    overlooked = taken_for_labels(work.odd.cases)
    assert any("takes" in line for line in work.log) == bool(overlooked)
    found = nnUNetDatasetBlosc2.get_identifiers(str(folder))
    assert sorted([*found, *overlooked]) == sorted(work.odd.cases)
    expected = {
        case: {name for name, values in work.classes.items() if values & work.held[case]} for case in work.odd.cases
    }
    assert classes_of_cases(work.preprocessed) == expected
