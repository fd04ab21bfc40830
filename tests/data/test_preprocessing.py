"""The preprocessed data are made once, again where something changed, and where they cannot be made it is said why."""

import json
import math
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from support.preprocessed_datasets import DATASET, ENDINGS, Dataset, SequentialPool, contents

from nnunetv2_tpmamba.data import preprocessing, workers
from nnunetv2_tpmamba.data.manifest import Manifest, SourceFile
from nnunetv2_tpmamba.data.plans import derive_plans


def denied(*args, **kwargs):
    raise PermissionError("denied")


def set_time(path, seconds):
    os.utime(path, (seconds, seconds))


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

    def test_a_case_that_nnunet_takes_for_labels_is_named(self, dataset):
        dataset.add_case("x_seg")
        dataset.ensure()
        assert dataset.log[0].startswith("nnU-Net takes x_seg for label maps, as the names end with _seg")
        identifiers = infer_dataset_class(str(dataset.folder)).get_identifiers(str(dataset.folder))
        assert set(identifiers) == {"a", "bb", "ccc"}  # so it is true

    def test_a_case_that_would_overwrite_labels_stops_before_anything_is_made(self, dataset):
        dataset.add_case("a_seg")
        before = contents(dataset.preprocessed)
        with pytest.raises(ValueError, match="the cases a and a_seg cannot be in one dataset"):
            dataset.ensure()
        assert contents(dataset.preprocessed) == before

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
                preprocessing._copy_label({str(label): copy}, staging)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(copy_often, [tmp_path / "one", tmp_path / "other"]))
        assert copy.read_bytes() == label.read_bytes()
        assert list(copy.parent.iterdir()) == [copy]


class TestErrors:
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

    def test_many_bad_cases(self, unmade):
        for case in "cdefgh":
            unmade.add_case(case, label=np.ones((8, 10, 10), np.uint8))
        with pytest.raises(RuntimeError, match=r"^6 of 8 cases could not .* and 1 more; the finished cases are kept"):
            unmade.ensure()

    def test_a_full_disk_is_suspected_where_little_is_free(self, unmade, monkeypatch):
        monkeypatch.setattr(workers, "FULL_DISK", math.inf)
        (unmade.raw / "labelsTr/bb.nii").write_bytes(b"no NIfTI")
        with pytest.raises(RuntimeError, match=r"^No space left: \d+ MB are free in .*_tpmamba; 1 of 2 cases"):
            unmade.ensure()

    def test_workers_end_before_their_folder_is_removed(self, unmade, monkeypatch):
        """Also where a finished case cannot be put in place."""
        staging_at_the_end = []

        def shutdown(self, **options):
            staging_at_the_end.extend((unmade.folder / ".tpmamba").glob("staging-*"))

        monkeypatch.setattr(SequentialPool, "shutdown", shutdown)
        monkeypatch.setattr(preprocessing, "_copy_label", denied)
        with pytest.raises(PermissionError, match="denied"):
            unmade.ensure()
        assert len(staging_at_the_end) == 1
        assert not staging_at_the_end[0].exists()

    def test_folder_cannot_be_written(self, unmade, monkeypatch):
        monkeypatch.setattr(preprocessing, "acquire", denied)
        with pytest.raises(
            OSError, match=r"\(not made yet: a, bb\), and the folder cannot be written .*make it writable or run"
        ):
            unmade.ensure()

    def test_no_processes(self, unmade):
        with pytest.raises(ValueError, match="num_processes 0: at least one process is needed"):
            unmade.ensure(num_processes=0)
