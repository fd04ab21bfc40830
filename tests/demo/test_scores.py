"""The demo's table of Dice values."""

import json
import math

import pytest

from nnunetv2_tpmamba.demo.scores import DiceTable


@pytest.fixture
def summary(tmp_path):
    """As nnU-Net writes it, with NaN where a class is absent from truth and prediction."""
    cases = [
        {"prediction_file": "/p/one.nii.gz", "metrics": {"1": {"Dice": 0.9}, "(2, 3)": {"Dice": 0.7}}},
        {"prediction_file": "/p/two.nii.gz", "metrics": {"1": {"Dice": 0.5}, "(2, 3)": {"Dice": math.nan}}},
    ]
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"metric_per_case": cases}))
    return path


CLASSES = {"liver": 1, "tumours": (2, 3)}


def test_classes_and_regions_have_their_names(summary):
    table = DiceTable.read(summary, CLASSES, ".nii.gz")
    assert table.cases["one"] == {"liver": 0.9, "tumours": 0.7}


def test_what_is_absent_does_not_count(summary):
    table = DiceTable.read(summary, CLASSES, ".nii.gz")
    assert table.mean("two") == 0.5
    assert table.as_text(2) == (
        "           one    two   mean\n"
        "liver    0.900  0.500  0.700\n"
        "tumours  0.700    nan  0.700\n"
        "mean     0.800  0.500  0.700"
    )


def test_many_cases_show_the_first_and_the_mean_of_all(summary):
    text = DiceTable.read(summary, CLASSES, ".nii.gz").as_text(1)
    assert text.splitlines()[0].split() == ["one", "mean", "of", "2"]
    assert text.splitlines()[1].split() == ["liver", "0.900", "0.700"]
