"""The preprocessed data: right, made once, and still right after kills, changes and missing folders.

``sequential`` replaces the pool of processes where a test is about the bookkeeping; the others run the real thing.
"""

import argparse
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from filelock import FileLock
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.plans import stock_plans
from support.preprocessed_datasets import DATASET, ENDINGS, Dataset

from nnunetv2_tpmamba.cli import preprocess as preprocess_verb
from nnunetv2_tpmamba.data import preprocessing
from nnunetv2_tpmamba.data.manifest import Manifest, SourceFile, training_cases
from nnunetv2_tpmamba.data.plans import derive_plans


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


@pytest.fixture
def sequential(monkeypatch):
    monkeypatch.setattr(preprocessing, "ProcessPoolExecutor", SequentialPool)


@pytest.fixture
def dataset(tmp_path, sequential):
    """Three small cases, preprocessed."""
    dataset = Dataset(tmp_path).create()
    for case in ("a", "bb", "ccc"):
        dataset.add_case(case)
    dataset.ensure()
    return dataset


def denied(*args, **kwargs):
    raise PermissionError("denied")


def set_time(path, seconds):
    os.utime(path, (seconds, seconds))


class TestTheData:
    @pytest.fixture(scope="class")
    def real(self, real_data, tmp_path_factory):
        """Three head and neck CTs with the stock data already there, and one of them as if scanned in thick slices."""
        source = real_data / "Dataset702_HeadNeckCrop"
        dataset_json = json.loads((source / "dataset.json").read_text())
        real = Dataset(tmp_path_factory.mktemp("real"), dataset_json).create()
        for label in sorted((source / "labelsTr").iterdir())[:3]:
            shutil.copyfile(label, real.raw / "labelsTr" / label.name)
            image = label.name.replace(".nii.gz", "_0000.nii.gz")
            shutil.copyfile(source / "imagesTr" / image, real.raw / "imagesTr" / image)
        for folder in ("imagesTr", "labelsTr"):
            path = min((real.raw / folder).iterdir())
            nifti = SimpleITK.ReadImage(str(path))
            nifti.SetSpacing((1.5, 1.5, 6))
            SimpleITK.WriteImage(nifti, str(path))
        stock = real.preprocessed / "nnUNetPlans_3d_fullres"
        stock.mkdir()
        for ending in ENDINGS:
            (stock / f"case{ending}").write_bytes(b"stock data")
        real.before = contents(real.preprocessed)
        real.ensure()
        real.cases = sorted(training_cases(real.raw, dataset_json))
        return real

    def test_values_are_in_0_to_1(self, real):
        for case in real.cases:
            data, _, _ = real.load(case)
            assert data.min() == 0
            assert data.max() == 1

    def test_size_is_in_mm(self, real):
        for case, files in training_cases(real.raw, real.dataset_json).items():
            nifti = SimpleITK.ReadImage(files.images[0])
            millimetres = [round(n * mm) for n, mm in zip(nifti.GetSize(), nifti.GetSpacing(), strict=True)]
            data, seg, properties = real.load(case)
            assert data.shape == seg.shape == (1, *reversed(millimetres))
            assert properties["shape_before_cropping"] == nifti.GetSize()[::-1]

    def test_labels_are_kept(self, real):
        for case, files in training_cases(real.raw, real.dataset_json).items():
            raw = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(files.label))
            _, seg, properties = real.load(case)
            assert set(np.unique(seg)) - {-1} == set(np.unique(raw))
            for label in range(1, 4):
                places = properties["class_locations"][label]
                assert (seg[tuple(places.T)] == label).all()

    def test_no_slice_of_a_thick_scan_is_repeated(self, real):
        data, _, _ = real.load(real.cases[0])
        assert data.shape[1] > 100
        assert (np.abs(np.diff(data[0], axis=0)).max(axis=(1, 2)) > 0).mean() > 0.95

    def test_equal_what_stock_prediction_computes(self, real):
        case = real.cases[-1]
        files = training_cases(real.raw, real.dataset_json)[case]
        plans_manager = PlansManager(real.plans)
        settings = plans_manager.get_configuration("3d_fullres")
        predictor_s, _, _ = settings.preprocessor_class(verbose=False).run_case(
            files.images, None, plans_manager, settings, real.dataset_json
        )
        np.testing.assert_array_equal(real.load(case)[0], predictor_s)

    def test_what_was_there_is_untouched(self, real):
        after = contents(real.preprocessed)
        assert {path: after[path] for path in real.before} == real.before
        assert {path.parts[0] for path in after.keys() - real.before.keys()} == {real.folder.name, "gt_segmentations"}

    def test_labels_are_copied_for_validation(self, real):
        assert contents(real.preprocessed / "gt_segmentations") == contents(real.raw / "labelsTr")

    def test_extreme_images(self, tmp_path, sequential):
        dataset = Dataset(tmp_path).create()
        one_slice = np.linspace(-1000, 1000, 400).reshape(1, 20, 20)
        dataset.add_case("air", np.full((8, 10, 9), -1024))
        dataset.add_case("water", np.zeros((8, 10, 9)))
        dataset.add_case("one_slice", one_slice, label=np.ones(one_slice.shape, np.uint8), spacing=(1, 1, 5))
        dataset.add_case("one_voxel", np.full((1, 1, 1), 25), label=np.ones((1, 1, 1), np.uint8))
        dataset.add_case("no_foreground", label=np.zeros((8, 10, 9), np.uint8))
        dataset.ensure()
        assert np.unique(dataset.load("air")[0]) == [0]
        np.testing.assert_allclose(dataset.load("water")[0], 200 / 450, rtol=1e-6)
        assert dataset.load("one_slice")[0].shape == (1, 5, 20, 20)
        assert dataset.load("one_voxel")[0].shape == (1, 2, 2, 2)
        assert len(dataset.load("no_foreground")[2]["class_locations"][1]) == 0

    def test_several_channels(self, tmp_path, sequential):
        dataset_json = {
            "channel_names": {"0": "CT", "1": "MRI"},
            "labels": {"background": 0, "organ": 1},
            "file_ending": ".nii",
        }
        plans = stock_plans()
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization", "ZScoreNormalization"]
        plans["configurations"]["3d_fullres"]["use_mask_for_norm"] = [False, False]
        plans["foreground_intensity_properties_per_channel"]["1"] = {"mean": 1.0}
        dataset = Dataset(tmp_path, dataset_json, plans).create()
        dataset.add_case("a", channels=2)
        dataset.ensure()
        ct, mri = dataset.load("a")[0]
        assert (ct.min(), ct.max()) == (0, 1)
        assert mri.min() < -1


def test_training_cases_listed_in_dataset_json(tmp_path, sequential):
    dataset = Dataset(tmp_path).create()
    dataset.add_case("a")
    dataset.add_case("not_listed")
    entry = {"images": ["imagesTr/a_0000.nii"], "label": "labelsTr/a.nii"}
    dataset.dataset_json["dataset"] = {"renamed": entry}
    dataset.ensure()
    assert sorted(path.name for path in dataset.folder.glob("*.b2nd")) == ["renamed.b2nd", "renamed_seg.b2nd"]
    assert (
        dataset.dataset_json["dataset"]["renamed"]["label"] == "labelsTr/a.nii"
    )  # nnU-Net's function changes its input


class TestNothingToDo:
    def test_nothing_is_written_and_no_lock_taken(self, dataset, monkeypatch):
        def fail(*args, **kwargs):
            raise AssertionError("must not be called")

        monkeypatch.setattr(preprocessing, "acquire", fail)
        monkeypatch.setattr(Manifest, "write", fail)
        before = contents(dataset.preprocessed)
        assert dataset.ensure() == dataset.folder
        assert contents(dataset.preprocessed) == before
        assert [line for line in dataset.log if "default split" not in line] == []

    def test_read_only_folder_with_raw_data_of_other_dates(self, dataset, monkeypatch):
        set_time(dataset.raw / "imagesTr/a_0000.nii", 1e9)
        monkeypatch.setattr(preprocessing, "acquire", denied)
        assert dataset.ensure() == dataset.folder

    def test_raw_data_absent(self, dataset):
        shutil.rmtree(dataset.raw)
        assert dataset.ensure() == dataset.folder
        assert dataset.ensure(raw_folder=None) == dataset.folder


class TestChangedDataset:
    def test_case_added(self, dataset):
        before = dataset.made_at()
        dataset.add_case("dddd")
        dataset.ensure()
        assert dataset.made_again(before) == {"dddd"}
        assert "1 of 4 cases" in dataset.log[-2]
        assert "(not made yet: dddd)" in dataset.log[-2]

    def test_case_removed(self, dataset):
        (dataset.raw / "imagesTr/a_0000.nii").unlink()
        (dataset.raw / "labelsTr/a.nii").unlink()
        before = dataset.made_at()
        dataset.ensure()
        assert dataset.made_again(before) == set()
        assert set(dataset.made_at()) == {f"{case}{ending}" for case in ("bb", "ccc") for ending in ENDINGS}
        assert "(no longer in the raw data: a)" in dataset.log[-2]

    @pytest.mark.parametrize("name", ["imagesTr/a_0000.nii", "labelsTr/a.nii"])
    def test_content_replaced_at_the_same_size(self, dataset, name):
        path = dataset.raw / name
        size, old = path.stat().st_size, path.read_bytes()
        dataset.write_image(name, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[:, ::-1])
        assert path.stat().st_size == size
        assert path.read_bytes() != old
        set_time(path, 1e9)  # older than the copy in gt_segmentations: nnU-Net would not copy it again
        before = dataset.made_at()
        dataset.ensure()
        assert dataset.made_again(before) == {"a"}
        assert "(image or label changed: a)" in dataset.log[-2]
        assert contents(dataset.preprocessed / "gt_segmentations") == contents(dataset.raw / "labelsTr")

    def test_image_of_another_size(self, dataset):
        dataset.add_case("bb", np.full((9, 9, 9), 100))
        before = dataset.made_at()
        dataset.ensure()
        assert dataset.made_again(before) == {"bb"}
        assert dataset.load("bb")[0].shape == (1, 22, 18, 18)

    def test_channel_added(self, dataset):
        dataset.write_image("imagesTr/a_0001.nii", np.zeros((8, 10, 9), np.float32))
        with pytest.raises(RuntimeError, match=r"case a: Unexpected number of modalities. Expected: 1. Got: 2"):
            dataset.ensure()

    def test_new_date_is_written_down_but_nothing_made(self, dataset, monkeypatch):
        path = dataset.raw / "labelsTr/a.nii"
        set_time(path, 1e9)
        before = dataset.made_at()
        dataset.ensure()
        assert dataset.made_at() == before
        assert Manifest.read(dataset.folder).cases["a"].sources[1].mtime_ns == 10**18
        monkeypatch.setattr(SourceFile, "of", None)  # no need to read the file again
        dataset.ensure()

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_preprocessed_file_deleted_or_cut(self, dataset, ending):
        (dataset.folder / f"a{ending}").unlink()
        (dataset.folder / f"bb{ending}").write_bytes(b"")
        before = dataset.made_at() | {"a.pkl": 0}
        dataset.ensure()
        assert dataset.made_again(before) == {"a", "bb"}
        assert "(preprocessed file missing or damaged: a, bb)" in dataset.log[-2]

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_damage_that_keeps_the_size_is_found_on_request(self, dataset, ending):
        before = dataset.made_at()
        file = dataset.folder / f"bb{ending}"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        dataset.ensure()
        assert not any("bb" in line for line in dataset.log)
        dataset.ensure(verify=True)
        assert "preprocessed file damaged: bb" in dataset.log[-2]
        assert dataset.made_again(before) - {f"bb{ending}"} <= {"bb"}
        dataset.ensure(verify=True)
        assert not any("bb" in line for line in dataset.log)

    def test_a_damaged_copy_of_a_label_is_found_on_request(self, dataset):
        copy, label = dataset.preprocessed / "gt_segmentations/bb.nii", dataset.raw / "labelsTr/bb.nii"
        copy.write_bytes(label.read_bytes()[:-1] + b"x")
        dataset.ensure(verify=True)
        assert "label copy missing or damaged: bb" in dataset.log[-2]
        assert copy.read_bytes() == label.read_bytes()

    def test_other_settings(self, dataset):
        before = dataset.made_at()
        dataset.plans["foreground_intensity_properties_per_channel"]["0"]["percentile_99_5"] = 100.0
        dataset.ensure()
        assert dataset.made_again(before) == {"a", "bb", "ccc"}
        assert re.search(
            r"made with other settings \(intensities .*250.* instead of .*100.*\): a, bb, ccc", dataset.log[-2]
        )
        assert dataset.load("a")[0].max() == pytest.approx(300 / 450)

    def test_label_copy_deleted(self, dataset):
        copy = dataset.preprocessed / "gt_segmentations/a.nii"
        copy.unlink()
        before = dataset.made_at()
        dataset.ensure()
        assert dataset.made_at() == before
        assert copy.read_bytes() == (dataset.raw / "labelsTr/a.nii").read_bytes()

    def test_outdated_label_copy_is_replaced(self, tmp_path, sequential):
        dataset = Dataset(tmp_path).create()
        dataset.add_case("a")
        copy = dataset.preprocessed / "gt_segmentations/a.nii"
        copy.parent.mkdir()
        copy.write_bytes(b"older")
        copy.with_name(".unfinished-a.nii-x").mkdir()  # of a killed run
        dataset.ensure()
        assert contents(copy.parent) == contents(dataset.raw / "labelsTr")

    def test_few_cases_are_mentioned(self, dataset):
        dataset.ensure()
        assert "only 3 of the 5 training cases that nnU-Net's default split needs" in dataset.log[0]
        split = [{"train": ["a", "bb"], "val": ["ccc"]}]
        (dataset.preprocessed / "splits_final.json").write_text(json.dumps(split))
        dataset.ensure()
        assert dataset.log == []

    def test_a_case_that_is_in_no_fold_is_named(self, dataset):
        split = [{"train": ["a"], "val": ["ccc"]}]
        (dataset.preprocessed / "splits_final.json").write_text(json.dumps(split))
        dataset.ensure()
        (line,) = dataset.log
        assert re.match(r"1 of 3 cases are in no fold of .*splits_final\.json, so only fold 'all' .*: bb;", line)

    def test_labels_are_copied_for_two_spacings_at_once(self, tmp_path, sequential):
        """Each data folder has a lock of its own; gt_segmentations is theirs together."""
        label, copy = tmp_path / "label.nii", tmp_path / "gt_segmentations" / "label.nii"
        label.write_bytes(bytes(100_000))

        def copy_often(staging):
            staging.mkdir()
            for _ in range(200):
                preprocessing._copy_label(str(label), copy, str(staging))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(copy_often, [tmp_path / "one", tmp_path / "other"]))
        assert copy.read_bytes() == label.read_bytes()
        assert list(copy.parent.iterdir()) == [copy]


class TestWarnings:
    """What is odd, but may be meant, is said and used."""

    @pytest.fixture
    def said(self, tmp_path, sequential):
        def said(image=None, origin=None):
            dataset = Dataset(tmp_path).create()
            dataset.add_case("a", image)
            if origin is not None:
                moved = SimpleITK.ReadImage(str(dataset.raw / "imagesTr/a_0000.nii"))
                moved.SetOrigin(origin)
                SimpleITK.WriteImage(moved, str(dataset.raw / "imagesTr/a_0000.nii"))
            dataset.ensure()
            assert len(dataset.made_at()) == 3
            return [line for line in dataset.log if line.startswith("case a: ")]

        return said

    def test_a_usual_ct_gives_none(self, said):
        assert said() == []

    def test_constant_image(self, said):
        assert said(np.full((8, 10, 9), 40.0)) == ["case a: channel 0 has the same value everywhere"]

    def test_ct_that_lost_its_rescale_intercept(self, said):
        image = np.random.default_rng(0).normal(1064, 60, (8, 10, 9))
        image[:, :, 8:] = 24  # air
        (line,) = said(image)
        assert "100% of the labelled voxels of channel 0 are outside the HU window" in line
        assert "rescale slope or intercept" in line

    def test_voxels_of_nifti_that_are_no_numbers(self, said):
        """SimpleITK reads them as 0, which in a CT is water."""
        image = np.random.default_rng(0).normal(40, 60, (8, 10, 9)).astype(np.float32)
        image[0, 0, :2], image[1, 1, 1] = np.nan, np.inf
        (line,) = said(image)
        assert re.search(r"3 voxels of .*a_0000\.nii are NaN or infinite, and are read as 0", line)

    def test_label_at_another_place(self, said):
        (line,) = said(origin=(5, 0, 0))
        assert "Origin mismatch" in line


class TestErrors:
    @pytest.fixture
    def unmade(self, tmp_path, sequential):
        dataset = Dataset(tmp_path).create()
        dataset.add_case("a")
        dataset.add_case("bb")
        return dataset

    def test_raw_data_absent(self, unmade):
        with pytest.raises(
            FileNotFoundError,
            match=r"_tpmamba are not ready \(no case was made\), and nnUNet_raw is not set; run "
            rf"`nnUNetv2_tpmamba preprocess -d {DATASET} -c 3d_fullres -p nnUNetPlans` where the raw data are and copy",
        ):
            unmade.ensure(raw_folder=None)
        with pytest.raises(FileNotFoundError, match=r"there is no .*/gone/imagesTr/\*_0000.nii; run"):
            unmade.ensure(raw_folder=unmade.raw / "gone")

    def test_raw_data_absent_and_a_trainer_with_its_own_spacing(self, unmade):
        unmade.plans = derive_plans(unmade.plans, "3d_fullres", unmade.dataset_json, spacing=(3, 3, 3))
        with pytest.raises(FileNotFoundError, match=r"_3mm are not ready .*; start this training where the raw"):
            unmade.ensure(raw_folder=None)

    def test_raw_data_absent_and_data_half_made(self, dataset):
        manifest = Manifest.read(dataset.folder)
        manifest.cases["bb"] = None
        manifest.write(dataset.folder)
        with pytest.raises(FileNotFoundError, match=r"not ready \(not made yet: bb\), and"):
            dataset.ensure(raw_folder=None)

    def test_raw_data_absent_and_labels_too(self, dataset):
        shutil.rmtree(dataset.preprocessed / "gt_segmentations")
        with pytest.raises(FileNotFoundError, match=r"label copy missing or damaged: a, bb, ccc\), and"):
            dataset.ensure(raw_folder=None)

    def test_no_cases(self, unmade):
        shutil.rmtree(unmade.raw / "imagesTr")
        with pytest.raises(FileNotFoundError, match=r"there is no .*/imagesTr/\*_0000.nii"):
            unmade.ensure()
        (unmade.raw / "imagesTr").mkdir()
        with pytest.raises(FileNotFoundError, match=r"there is no .*/imagesTr/\*_0000.nii"):
            unmade.ensure()

    def test_bad_cases_are_named_and_good_ones_kept(self, unmade):
        unmade.add_case("sizes", label=np.ones((8, 10, 10), np.uint8))
        (unmade.raw / "labelsTr/bb.nii").write_bytes(b"no NIfTI")
        with pytest.raises(RuntimeError, match="2 of 3 cases could not be preprocessed") as caught:
            unmade.ensure()
        assert "case sizes: Shape mismatch between segmentation and corresponding images" in str(caught.value)
        assert "case bb: " in str(caught.value)
        assert set(unmade.made_at()) == {f"a{ending}" for ending in ENDINGS}
        before = unmade.made_at()
        for case in ("sizes", "bb"):
            unmade.add_case(case)
        unmade.ensure()
        assert unmade.made_again(before) == {"sizes", "bb"}

    @pytest.mark.parametrize(
        ("value", "scheme", "message"),
        [
            (np.nan, "CTNormalization", "Images contain NaN"),
            (np.inf, "ZScoreNormalization", "the images have voxels that are not finite"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:All-NaN slice:RuntimeWarning")
    def test_image_with_nan_or_infinity(self, tmp_path, sequential, value, scheme, message):
        """An infinite voxel of a CT is clipped to the window, and so does no harm."""
        dataset_json = {"channel_names": {"0": "X"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".mha"}
        plans = stock_plans()
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = [scheme]
        dataset = Dataset(tmp_path, dataset_json, plans).create()  # not NIfTI: SimpleITK reads NaN as 0 there
        image = np.zeros((8, 10, 9))
        image[4, 5, 6] = value
        dataset.add_case("a", image)
        with pytest.raises(RuntimeError, match=f"case a: {message}"):
            dataset.ensure()

    def test_label_value_that_dataset_json_does_not_name(self, unmade):
        label = np.zeros((8, 10, 9), np.uint8)
        label[2, 3, 4] = 7
        unmade.add_case("odd", label=label)
        with pytest.raises(RuntimeError, match=r"case odd: Unexpected labels found in .*odd.nii.* Found: \[0. 7.\]"):
            unmade.ensure()

    def test_label_of_another_spacing(self, unmade):
        unmade.write_image("labelsTr/bb.nii", np.ones((8, 10, 9), np.uint8), (2, 2, 5))
        with pytest.raises(RuntimeError, match="case bb: Spacing mismatch between segmentation and corresponding"):
            unmade.ensure()

    def test_channel_is_missing(self, tmp_path, sequential):
        dataset_json = {"channel_names": {"0": "CT", "1": "CT"}, "labels": {"background": 0}, "file_ending": ".nii"}
        plans = stock_plans()
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization"] * 2
        plans["configurations"]["3d_fullres"]["use_mask_for_norm"] = [False] * 2
        dataset = Dataset(tmp_path, dataset_json, plans).create()
        dataset.add_case("a")
        with pytest.raises(RuntimeError, match=r"case a: Unexpected number of modalities. Expected: 2. Got: 1"):
            dataset.ensure()

    def test_ignored_voxels_are_no_error(self, tmp_path, sequential):
        dataset_json = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "whole": [1, 2], "part": 2, "ignore": 3},
            "regions_class_order": [1, 2],
            "file_ending": ".nii",
        }
        dataset = Dataset(tmp_path, dataset_json).create()
        dataset.add_case("a", label=np.arange(720, dtype=np.uint8).reshape(8, 10, 9) % 4)
        dataset.ensure()
        assert not [line for line in dataset.log if "case a" in line]

    def test_many_bad_cases(self, unmade):
        for case in "cdefgh":
            unmade.add_case(case, label=np.ones((8, 10, 10), np.uint8))
        with pytest.raises(RuntimeError, match=r"^6 of 8 cases could not .* and 1 more; the finished cases are kept"):
            unmade.ensure()

    def test_folder_cannot_be_written(self, unmade, monkeypatch):
        monkeypatch.setattr(preprocessing, "acquire", denied)
        with pytest.raises(
            OSError, match=r"\(not made yet: a, bb\), and the folder cannot be written .*make it writable or run"
        ):
            unmade.ensure()

    def test_no_processes(self, unmade):
        with pytest.raises(ValueError, match="num_processes 0: at least one process is needed"):
            unmade.ensure(num_processes=0)


JOB = """
import os, pickle, signal, sys
from nnunetv2_tpmamba import preprocessing

def kill_at(last):
    replace, calls = os.replace, iter(range(1, 1000))
    def count(*args):
        if next(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)
    os.replace = count

if __name__ == "__main__":
    if len(sys.argv) > 2:
        kill_at(int(sys.argv[2]))
    with open(sys.argv[1], "rb") as file:
        arguments, options = pickle.load(file)
    options |= {"log": lambda line: print(line, flush=True), "show_progress": False}
    preprocessing.ensure_preprocessed(*arguments, **options)
"""


class TestRealProcesses:
    @pytest.fixture
    def unmade(self, tmp_path):
        """Four cases that take half a second each."""
        dataset = Dataset(tmp_path).create()
        for case in ("a", "bb", "ccc", "dddd"):
            dataset.add_case(case, np.random.default_rng(len(case)).normal(0, 300, (32, 40, 40)))
        arguments = (dataset.plans, "3d_fullres", dataset.dataset_json)
        options = {"raw_folder": dataset.raw, "preprocessed_folder": dataset.preprocessed, "num_processes": 1}
        (tmp_path / "arguments.pkl").write_bytes(pickle.dumps((arguments, options)))
        (tmp_path / "job.py").write_text(JOB)
        return dataset

    def start(self, dataset, *arguments):
        base = dataset.raw.parents[1]
        command = [sys.executable, base / "job.py", base / "arguments.pkl", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def finished(self, dataset):
        manifest = Manifest.read(dataset.folder)
        return {case for case, record in manifest.cases.items() if record} if manifest else set()

    def check_complete(self, dataset):
        assert self.finished(dataset) == {"a", "bb", "ccc", "dddd"}
        assert set(dataset.made_at()) == {
            f"{case}{ending}" for case in ("a", "bb", "ccc", "dddd") for ending in ENDINGS
        }
        assert sorted(path.name for path in (dataset.folder / ".tpmamba").iterdir()) == ["lock", "manifest.json"]
        for case in ("a", "bb", "ccc", "dddd"):
            assert dataset.load(case)[0].shape == (1, 80, 80, 80)

    def test_killed_while_a_worker_is_busy(self, unmade):
        process = self.start(unmade)
        with process:
            while not self.finished(unmade):
                assert process.poll() is None
                time.sleep(0.01)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
        assert children
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline, "a worker outlived its killed parent"
            time.sleep(0.05)

        kept, before = self.finished(unmade), unmade.made_at()
        assert 0 < len(kept) < 4
        unmade.ensure()
        assert unmade.made_again(before) == {"a", "bb", "ccc", "dddd"} - kept
        assert f"preprocessing {4 - len(kept)} of 4 cases" in unmade.log[-2]
        self.check_complete(unmade)

    # os.replace is called for the empty manifest, then per case for three files, the label's copy and the manifest
    @pytest.mark.parametrize(("call", "at"), [(8, "between two files of the second case"), (11, "before its record")])
    def test_killed_while_a_case_is_put_in_place(self, unmade, call, at, sequential):
        process = self.start(unmade, call)
        with process:
            assert process.wait() == -signal.SIGKILL
        (kept,) = self.finished(unmade)
        assert len({name for name in unmade.made_at() if name.endswith(".b2nd")}) > 2, at
        before = unmade.made_at()
        unmade.ensure()
        assert {f"{kept}{ending}" for ending in ENDINGS} <= {
            n for n, t in unmade.made_at().items() if before.get(n) == t
        }
        assert "preprocessing 3 of 4 cases" in unmade.log[-2]
        self.check_complete(unmade)

    def test_two_at_once(self, unmade):
        processes = [self.start(unmade), self.start(unmade)]
        outputs = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        worker, waiter = sorted(outputs, key=lambda output: "another process is preparing" in output)
        assert "preprocessing 4 of 4 cases" in worker
        assert "waiting until it is done" in waiter
        assert "of 4 cases" not in waiter
        self.check_complete(unmade)

    def test_worker_dies(self, unmade, monkeypatch):
        monkeypatch.setattr(preprocessing, "preprocess_case", die)
        with pytest.raises(
            RuntimeError, match=r"one of 1 preprocessing processes died, .* memory; .* with fewer processes"
        ):
            unmade.ensure(num_processes=1)
        assert self.finished(unmade) == set()
        assert FileLock(unmade.folder / ".tpmamba/lock").acquire(timeout=0)
        assert not list((unmade.folder / ".tpmamba").glob("staging-*"))


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


class TestCommand:
    @pytest.fixture
    def run(self, dataset, monkeypatch):
        monkeypatch.setenv("nnUNet_raw", str(dataset.raw.parent))
        monkeypatch.setenv("nnUNet_preprocessed", str(dataset.preprocessed.parent))
        monkeypatch.delenv("nnUNet_results", raising=False)

        def run(*arguments):
            parser = argparse.ArgumentParser()
            preprocess_verb.add_arguments(parser)
            return preprocess_verb.run(parser.parse_args(arguments))

        return run

    @pytest.mark.parametrize("name", ["1", "001", DATASET])
    def test_says_where_the_data_are_and_how_to_train(self, run, dataset, capsys, name):
        shutil.rmtree(dataset.folder)
        assert run("-d", name, "-np", "1") == 0
        printed = capsys.readouterr().out
        assert "preprocessing 3 of 3 cases" in printed
        assert f"are in {dataset.folder}" in printed
        assert f"nnUNetv2_train {DATASET} 3d_fullres 0 -tr nnUNetTrainerTPMamba\n" in printed

    def test_other_plans(self, run, dataset, capsys):
        (dataset.preprocessed / "Mine.json").write_text(json.dumps(stock_plans(plans_name="Mine")))
        assert run("-d", "1", "-c", "3d_fullres", "-p", "Mine") == 0
        assert "-tr nnUNetTrainerTPMamba -p Mine\n" in capsys.readouterr().out

    def test_makes_what_a_training_uses(self, run, dataset):
        before = dataset.made_at()
        run("-d", "1", "1")
        assert dataset.made_at() == before

    def test_unknown_dataset(self, run):
        for name in ("77", "Dataset077_None"):
            with pytest.raises(
                ValueError, match=rf"there is no dataset {name} in nnUNet_preprocessed \(.*; check the id"
            ):
                run("-d", name)

    def test_neither_id_nor_name(self, run):
        with pytest.raises(ValueError, match="dataset 'liver': give an id such as 702 or a name"):
            run("-d", "liver")

    def test_id_of_two_datasets(self, run, dataset):
        (dataset.raw.parent / "Dataset001_Twin").mkdir()
        with pytest.raises(
            ValueError, match="several datasets have the id 1: Dataset001_Test, Dataset001_Twin; give the"
        ):
            run("-d", "1")

    def test_not_planned_yet(self, run, dataset):
        (dataset.raw.parent / "Dataset002_New").mkdir()
        for name in ("2", "Dataset002_New"):
            with pytest.raises(
                FileNotFoundError, match=r"nnUNetPlans.json does not exist; .*nnUNetv2_plan_and_preprocess -d 2"
            ):
                run("-d", name)

    def test_2d(self, run):
        with pytest.raises(ValueError, match="'2d' is 2D"):
            run("-d", "1", "-c", "2d")

    def test_variables_not_set(self, run, dataset, monkeypatch):
        shutil.rmtree(dataset.folder)
        monkeypatch.delenv("nnUNet_raw")
        with pytest.raises(FileNotFoundError, match="nnUNet_raw is not set"):
            run("-d", "1")
        monkeypatch.delenv("nnUNet_preprocessed")
        with pytest.raises(OSError, match="the environment variable nnUNet_preprocessed is not set"):
            run("-d", "1")
