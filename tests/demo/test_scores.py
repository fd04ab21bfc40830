import json
import math

import pytest

from nnunetv2_tpmamba.demo.scores import Scores


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


DESCRIPTION = {"labels": {"background": 0, "liver": 1, "tumours": [2, 3]}, "file_ending": ".nii.gz"}


def test_classes_and_regions_have_their_names(summary):
    scores = Scores.read(summary, DESCRIPTION)
    assert scores.cases["one"] == {"liver": 0.9, "tumours": 0.7}


def test_what_is_absent_does_not_count(summary):
    scores = Scores.read(summary, DESCRIPTION)
    assert scores.mean("two") == 0.5
    assert scores.table(2) == (
        "           one    two   mean\n"
        "liver    0.900  0.500  0.700\n"
        "tumours  0.700    nan  0.700\n"
        "mean     0.800  0.500  0.700"
    )


def test_many_cases_show_the_first_and_the_mean_of_all(summary):
    table = Scores.read(summary, DESCRIPTION).table(1)
    assert table.splitlines()[0].split() == ["one", "mean", "of", "2"]
    assert table.splitlines()[1].split() == ["liver", "0.900", "0.700"]
