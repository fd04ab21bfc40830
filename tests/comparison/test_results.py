"""Over what means are taken, and in which order, on scores made by hand so that another order gives another number."""

import math

import pytest

from nnunetv2_tpmamba.comparison.results import MEAN, Group, Results


def make_results(scores, classes=("liver", "spleen")):
    """``scores``: for each method and fold (and repeat), a number for each case and class: Dice, HD95, twice NSD."""
    of_classes = {
        (*key, 1)[:3]: {
            case: {
                name: {"Dice": dice, "NSD": dice / 2, "HD95": dice} for name, dice in zip(classes, values, strict=True)
            }
            for case, values in cases.items()
        }
        for key, cases in scores.items()
    }
    methods = tuple(dict.fromkeys(method for method, *_ in scores))
    folds = tuple(dict.fromkeys(fold for _, fold, *_ in scores))
    return Results("", methods, classes, dict.fromkeys(classes, 1.0), (Group("", folds),), {}, of_classes)


def test_of_a_fold_cases_are_averaged_before_classes():
    """As nnU-Net does; one case lacks a class, so averaging classes first would give 0.5."""
    results = make_results({("m", "0"): {"a": (1.0, 0.0), "b": (math.nan, 0.5)}})
    assert results.of_fold("m", "0", "Dice") == {"liver": 1.0, "spleen": 0.25, MEAN: 0.625}
    assert results.of_fold("m", "0", "NSD") == {"liver": 0.5, "spleen": 0.125, MEAN: 0.3125}


def test_of_cases_classes_are_averaged_in_each_case():
    results = make_results({("m", "0"): {"a": (1.0, 0.0), "b": (math.nan, 0.25)}})
    assert results.of_cases("m", results.groups[0], "Dice") == {"a": 0.5, "b": 0.25}


def test_of_a_group_the_means_of_folds_are_averaged():
    """Three cases in one fold and one in the other: every fold counts the same."""
    results = make_results({("m", "0"): dict.fromkeys("abc", (1.0, 0.5)), ("m", "1"): {"a": (0.0, 0.5)}})
    mean = results.of_group("m", results.groups[0], "Dice")
    assert (mean["liver"].mean, mean["spleen"].mean, mean[MEAN].mean) == (0.5, 0.5, 0.5)
    assert mean["liver"].spread == pytest.approx(math.sqrt(0.5))
    assert mean["liver"].n == 2


def test_draws_of_one_case_are_averaged():
    results = make_results(
        {
            ("A", "0"): {"a": (0.25, 0.25), "b": (0.5, 0.5)},
            ("A", "1"): {"a": (0.75, 0.75), "b": (1.0, 1.0)},
            ("B", "0"): {"a": (1.0, 1.0), "b": (0.75, 0.75)},
            ("B", "1"): {"a": (0.25, 0.25), "b": (0.5, 0.5)},
        }
    )
    group = results.groups[0]
    assert results.of_cases("A", group, "Dice") == {"a": 0.5, "b": 0.75}
    assert results.of_cases("B", group, "Dice") == {"a": 0.625, "b": 0.625}


def test_an_infinite_distance_enters_no_mean_and_is_counted():
    """The spleen is missed in one of two cases and absent in a third, the liver is missed in both."""
    cases = {"a": (math.inf, 2.0), "b": (math.inf, math.inf), "c": (math.nan, math.nan)}
    results = make_results({("m", "0"): cases, ("m", "1"): {"a": (4.0, 3.0)}})
    mean = results.of_fold("m", "0", "HD95")
    assert math.isnan(mean["liver"])
    assert (mean["spleen"], mean[MEAN]) == (2.0, 2.0)
    assert results.undefined("m", results.groups[0], "HD95") == {"liver": (2, 3), "spleen": (1, 3), MEAN: (3, 6)}
    assert results.of_cases("m", Group("", ("0",)), "HD95") == pytest.approx(
        {"a": 2.0, "b": math.nan, "c": math.nan}, nan_ok=True
    )
