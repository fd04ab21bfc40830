"""Which reader the derived plans name, and that a model's folds all read alike."""

import json

import pytest
from support.plans import stock_plans

from nnunetv2_tpmamba.data.readers import orientation_of_folds, reader_for, why_as_stored

AS_STORED, TURNING = "SimpleITKIO", "SimpleITKIOWithReorient"


def description(*values, ignore=None, order=None):
    labels = {f"organ {index}": value for index, value in enumerate(values)}
    labels |= {} if ignore is None else {"ignore": ignore}
    return {"labels": {"background": 0, **labels}, "regions_class_order": order}


class TestLabels:
    """The reader that turns images writes labels as uint8."""

    @pytest.mark.parametrize(
        "given", [description(1), description(*range(1, 255)), description("1", "2"), description(1, ignore=2)]
    )
    def test_that_fit(self, given):
        assert reader_for(AS_STORED, given, "RAS") == TURNING

    @pytest.mark.parametrize(
        "given",
        [
            description(*range(1, 301)),
            description(*map(str, range(1, 301))),
            description(*range(1, 300), ignore=300),
            description([1, 300], 1, order=[1, 2]),
            description([1, 2], 1, order=[1, 300]),
        ],
    )
    def test_that_do_not_fit(self, given):
        assert reader_for(AS_STORED, given, "RAS") == AS_STORED
        assert why_as_stored(AS_STORED, given) == f"{TURNING} writes labels up to 254, and dataset.json has 300"


@pytest.mark.parametrize("reader", ["NibabelIO", "Tiff3DIO", "ReaderOfTheUser"])
def test_other_readers_stay(reader):
    assert reader_for(reader, description(1), "RAS") == reader
    assert why_as_stored(reader, description(1)).startswith(f"the plans name {reader}")


@pytest.mark.parametrize("reader", [TURNING, "NibabelIOWithReorient"])
def test_readers_that_turn_images_stay(reader):
    for orientation in ("RAS", "stored"):
        assert reader_for(reader, description(1, 300), orientation) == reader
    assert why_as_stored(reader, description(1, 300)) is None


class TestFoldsOfAModel:
    @pytest.fixture
    def model(self, tmp_path):
        def model(reader):
            (tmp_path / "fold_0").mkdir()
            (tmp_path / "fold_0/checkpoint_latest.pth").touch()
            (tmp_path / "plans.json").write_text(json.dumps({"image_reader_writer": reader}))
            return tmp_path

        return model

    @pytest.mark.parametrize("wanted", ["RAS", "stored"])
    @pytest.mark.parametrize(("reader", "orientation"), [(AS_STORED, "stored"), (TURNING, "RAS")])
    def test_read_as_those_before(self, model, reader, orientation, wanted):
        assert orientation_of_folds(stock_plans(), model(reader), wanted) == orientation

    def test_are_as_wanted_if_there_is_none(self, model, tmp_path):
        folder = model(AS_STORED)
        (folder / "fold_0/checkpoint_latest.pth").unlink()  # as a training that ended before its first checkpoint
        for absent in (None, tmp_path / "gone", folder):
            assert orientation_of_folds(stock_plans(), absent, "RAS") == "RAS"

    def test_are_as_wanted_if_the_dataset_is_read_otherwise_now(self, model):
        plans = stock_plans(image_reader_writer="NibabelIO")
        assert orientation_of_folds(plans, model(AS_STORED), "RAS") == "RAS"

    @pytest.mark.parametrize("content", ["", "[]", "{}"])
    def test_are_as_wanted_if_their_plans_are_damaged(self, model, content):
        folder = model(AS_STORED)
        (folder / "plans.json").write_text(content)
        assert orientation_of_folds(stock_plans(), folder, "RAS") == "RAS"
