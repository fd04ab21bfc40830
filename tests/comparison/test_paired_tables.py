"""What the tables of paired comparisons say, of scores made by hand."""

import math

import numpy as np
import pytest

from nnunetv2_tpmamba.comparison.document import Heading, Paragraph, Table, to_markdown
from nnunetv2_tpmamba.comparison.families import against_baseline
from nnunetv2_tpmamba.comparison.metrics import METRICS
from nnunetv2_tpmamba.comparison.paired_tables import case_by_case, family_table
from nnunetv2_tpmamba.comparison.results import Group, Results

PLAIN = (Group("all cases", ("",)),)
CLASSES = ("liver", "spleen")


def make_results(gains=(0.0, 0.1), cases=20, absent=(), groups=PLAIN):
    """Scores that rise by a gain per method; ``absent`` are pairs of a case's index and a class that it lacks."""
    generator = np.random.default_rng(0)
    scores = {}
    for fold in [fold for group in groups for fold in group.folds]:
        truth = generator.uniform(0.4, 0.6, (cases, len(CLASSES)))
        for method, gain in enumerate(gains):
            noise = generator.normal(0, 0.01, truth.shape)
            scores[f"method {method}", fold] = {
                f"case_{i}": {
                    name: dict.fromkeys(METRICS, math.nan if (i, name) in absent else truth[i, j] + gain + noise[i, j])
                    for j, name in enumerate(CLASSES)
                }
                for i in range(cases)
            }
    methods = tuple(dict.fromkeys(method for method, _ in scores))
    return Results("title", methods, CLASSES, dict.fromkeys(CLASSES, 1.0), groups, {}, scores)


def rows_of(table):
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def test_a_row_shows_the_numbers_of_its_comparison():
    results = make_results(absent=[(0, "liver"), (0, "spleen"), (2, "liver")])
    family = against_baseline(results, "Dice")
    (row,) = rows_of(family_table(family, ".3f"))
    pair = results.paired("method 1", PLAIN[0], "Dice")
    assert pair.mean == pytest.approx(pair.means[0] - pair.means[1])
    assert list(row.values()) == [
        "method 1",
        "all cases",
        "19",
        f"{pair.means[0]:.3f}",
        f"{pair.means[1]:.3f}",
        f"{pair.mean:+.3f}",
        f"{pair.interval[0]:+.3f} to {pair.interval[1]:+.3f}",
        f"{pair.median:+.3f}",
        "19/0/0",
        "+1.00",
        f"{pair.p:.3g}",
        f"{pair.p:.3g}",
        family.verdict(("method 1", "all cases")),
    ]


def test_a_family_holds_every_method_and_group_of_a_metric():
    groups = (Group("6 training cases", ("0",), 6), Group("3 training cases", ("1", "2"), 3))
    results = make_results((0, 0.1, 0.2, 0.3), groups=groups)
    family = against_baseline(results, "Dice")
    assert family.tests == 6
    for row in rows_of(family_table(family, ".3f")):
        p = family.comparisons[row["method"], row["on"]].p
        assert float(row["corrected p"]) == pytest.approx(6 * p, rel=1e-2)  # all have the same p, the smallest there is


def test_only_the_table_of_dice_claims_and_no_other_text_does():
    """So a report claims something exactly where the tests of the confirmatory family do."""
    results = make_results((0, 0.1, 0.2))
    claimed, metric = {}, None
    for block in case_by_case(results):
        if isinstance(block, Heading):
            metric = block.text
        number = to_markdown([block]).lower().count("signific")
        assert not (number and isinstance(block, Paragraph))
        if isinstance(block, Table):
            claimed[metric] = number
    assert claimed == {f"{metric.label}, mean over classes": 2 * (metric.name == "Dice") for metric in METRICS.values()}


def test_what_is_not_defined_is_a_dash():
    absent = [(i, name) for i in range(2) for name in CLASSES]
    (row,) = rows_of(family_table(against_baseline(make_results(cases=2, absent=absent), "Dice"), ".3f"))
    assert row.pop("win/tie/loss") == "0/0/0"
    assert list(row.values()) == ["method 1", "all cases", "0", *["\N{EN DASH}"] * 8, "no case to compare"]
