"""The user's data set for the demo: which of its cases are unseen, and that it stays as it is."""

import json

import pytest
from support.raw_datasets import make_raw, snapshot

from nnunetv2_tpmamba.data.raw_dataset import RawDataset


def test_labelled_test_cases_are_the_unseen_ones(tmp_path):
    folder = make_raw(tmp_path / "Dataset123_Some", training="abcdef", unseen="xy")
    (folder / "labelsTs" / "y.nii.gz").unlink()
    data = RawDataset.read(folder)
    assert list(data.training) == list("abcdef")
    assert list(data.unseen) == ["x"]
    assert data.name == "Dataset123_Some"


@pytest.mark.parametrize(("training", "unseen"), [("ab", "b"), ("abc", "c"), ("abcdefghij", "ij")])
def test_without_test_cases_the_last_fifth_is_unseen(tmp_path, training, unseen):
    data = RawDataset.read(make_raw(tmp_path / "d", training=training))
    assert list(data.unseen) == list(unseen)
    assert list(data.training) == [case for case in training if case not in unseen]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Dataset005_A-b_c", "Dataset005_A-b_c"), ("my CTs", "Dataset700_myCTs"), ("Dataset5_x", "Dataset700_Dataset5x")],
)
def test_a_folder_of_any_name_gets_a_name_nnunet_accepts(tmp_path, folder, name):
    assert RawDataset.read(make_raw(tmp_path / folder)).name == name


def test_the_linked_data_set_has_the_same_form_and_leaves_the_source_alone(tmp_path):
    folder = make_raw(tmp_path / "source", training="abc", channels=2)
    before = snapshot(folder)
    raw = tmp_path / "raw" / "Dataset700_source"
    RawDataset.read(folder).link(raw)
    assert sorted(str(path.relative_to(raw)) for path in raw.rglob("*.gz")) == [
        "imagesTr/a_0000.nii.gz",
        "imagesTr/a_0001.nii.gz",
        "imagesTr/b_0000.nii.gz",
        "imagesTr/b_0001.nii.gz",
        "imagesTs/c_0000.nii.gz",
        "imagesTs/c_0001.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/b.nii.gz",
        "labelsTs/c.nii.gz",
    ]
    assert json.loads((raw / "dataset.json").read_text())["numTraining"] == 2
    assert (raw / "imagesTr" / "a_0001.nii.gz").resolve() == folder / "imagesTr" / "a_0001.nii.gz"
    assert snapshot(folder) == before


def test_files_listed_in_dataset_json_are_found(tmp_path, monkeypatch):
    elsewhere = make_raw(tmp_path / "elsewhere")
    monkeypatch.setenv("PLACE", str(elsewhere))
    listed = {
        "p": {"images": ["$PLACE/imagesTr/a_0000.nii.gz"], "label": str(elsewhere / "labelsTr" / "a.nii.gz")},
        "q": {"images": ["../elsewhere/imagesTr/b_0000.nii.gz"], "label": "../elsewhere/labelsTr/b.nii.gz"},
    }
    data = RawDataset.read(make_raw(tmp_path / "list", training=(), dataset=listed))
    raw = tmp_path / "raw"
    data.link(raw)
    assert (raw / "imagesTr" / "p_0000.nii.gz").resolve() == elsewhere / "imagesTr" / "a_0000.nii.gz"
    assert (raw / "labelsTs" / "q.nii.gz").resolve() == elsewhere / "labelsTr" / "b.nii.gz"
    assert "dataset" not in json.loads((raw / "dataset.json").read_text())


def test_where_there_are_no_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not permitted")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    RawDataset.read(make_raw(tmp_path / "source")).link(tmp_path / "raw")
    copy = tmp_path / "raw" / "labelsTr" / "a.nii.gz"
    assert copy.is_file()
    assert not copy.is_symlink()


def test_what_is_not_a_raw_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is not a folder; a raw nnU-Net data set has dataset.json, imagesTr"):
        RawDataset.read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no dataset\.json; a raw nnU-Net data set"):
        RawDataset.read(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset\.json cannot be read \("):
        RawDataset.read(tmp_path)
    description = {"labels": {"background": 0}, "modality": {"0": "CT"}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="has no channel_names, which nnU-Net v2 needs"):
        RawDataset.read(tmp_path)


def test_one_labelled_case_is_too_few(tmp_path):
    folder = make_raw(tmp_path / "d")
    (folder / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"has 1 labelled training cases .* at least 2 are needed"):
        RawDataset.read(folder)


def test_a_missing_channel_is_named(tmp_path):
    folder = make_raw(tmp_path / "d", channels=2)
    (folder / "imagesTr" / "a_0001.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"case a of .* has 1 of 2 images .*; every case needs one per channel"):
        RawDataset.read(folder)


def test_the_spacing_of_a_tiff_goes_with_it(tmp_path):
    folder = make_raw(tmp_path / "d", ending=".tif")
    for part in ("images", "labels"):
        for case in "ab":
            (folder / f"{part}Tr" / f"{case}.json").touch()
    RawDataset.read(folder).link(tmp_path / "raw")
    linked = sorted(str(path.relative_to(tmp_path / "raw")) for path in (tmp_path / "raw").rglob("*.json"))
    assert linked == ["dataset.json", "imagesTr/a.json", "imagesTs/b.json", "labelsTr/a.json", "labelsTs/b.json"]


def test_names_that_nnunet_cannot_take_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the cases a and a_seg cannot be in one dataset"):
        RawDataset.read(make_raw(tmp_path / "d", training=("a", "a_seg", "b")))
