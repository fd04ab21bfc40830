"""Structures missed and invented, and errors of volumes, counted by hand."""

import math

import pytest

from nnunetv2_tpmamba.comparison.document import Heading, Paragraph, Table
from nnunetv2_tpmamba.comparison.failures import Failures, failure_blocks, failures
from nnunetv2_tpmamba.comparison.results import Group, Results

VOLUMES = {  # ml of truth and prediction, by class and case
    "liver": [(100.0, 110.0), (100.0, 40.0), (200.0, 180.0), (100.0, 105.0)],
    "spleen": [(10.0, 0.0), (0.0, 0.0), (0.0, 2.5), (20.0, 0.0)],
    "gland": [(0.0, 0.0)] * 4,
}


def make_results(volumes=VOLUMES, folds=("0",)):
    scores = {
        f"case_{index}": {
            name: dict(zip(("truth_ml", "prediction_ml"), of[index], strict=True)) for name, of in volumes.items()
        }
        for index in range(4)
    }
    by_run = {("m", fold, 1): scores for fold in folds}
    return Results("", ("m",), tuple(volumes), {}, (Group("", folds),), {}, by_run)


def of(name, **arguments):
    results = make_results(**arguments)
    return failures(results, "m", results.groups[0], name)


def test_the_median_and_the_worst_error_of_a_volume_by_hand():
    """Errors of +10 %, -60 %, -10 % and +5 %."""
    liver = of("liver")
    assert (liver.missed, liver.present, liver.invented, liver.absent) == (0, 4, 0, 0)
    assert liver.median_error == pytest.approx(-0.025)
    assert liver.worst_error == pytest.approx(-0.6)
    assert str(liver) == "\N{EN DASH}"


def test_missed_and_invented_structures_are_counted_of_the_cases_that_could_show_them():
    assert of("spleen") == Failures(2, 2, 1, 2, 2.5, -1.0, -1.0)
    assert str(of("spleen")) == "missed in 2 of 2, invented in 1 of 2 (up to 2.5 ml)"
    assert str(of("spleen", folds=("0", "1"))) == "missed in 4 of 4, invented in 2 of 4 (up to 2.5 ml)"


def test_a_class_in_no_truth_has_no_error_of_a_volume():
    gland = of("gland")
    assert (gland.present, gland.absent, gland.invented_ml) == (0, 4, 0)
    assert math.isnan(gland.median_error)
    assert math.isnan(gland.worst_error)


def test_the_report_shows_the_classes_that_failed_and_all_volumes():
    *shown, hidden = failure_blocks(make_results())
    (failed,), (volumes,) = ([block for block in part if isinstance(block, Table)] for part in (shown, hidden.blocks))
    assert failed.header == ["", "spleen"]
    assert volumes.header == ["", "liver", "spleen", "gland"]
    assert volumes.rows == [["m", "-2% (worst -60%)", "-100% (worst -100%)", "\N{EN DASH}"]]
    blocks = failure_blocks(make_results({"liver": VOLUMES["liver"]}))
    assert Paragraph("No method missed or invented a structure in any case.") in blocks
    assert next(block.text for block in blocks if isinstance(block, Heading)) == "Failures"
