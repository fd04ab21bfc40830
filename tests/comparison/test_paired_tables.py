"""What the tables of paired comparisons say, of scores made by hand."""

import math

import numpy as np
import pytest

from nnunetv2_tpmamba.comparison.case_scores import CaseScores
from nnunetv2_tpmamba.comparison.document import Details, Table, to_markdown
from nnunetv2_tpmamba.comparison.families import compare_all
from nnunetv2_tpmamba.comparison.metrics import METRICS, VOLUMES
from nnunetv2_tpmamba.comparison.paired_tables import baseline_table, case_by_case, pairs_table, structure_details
from nnunetv2_tpmamba.comparison.records import summary
from nnunetv2_tpmamba.comparison.report import report
from nnunetv2_tpmamba.comparison.results import Group, Results
from nnunetv2_tpmamba.comparison.runs import Run

PLAIN = (Group("all cases", ("",)),)
CLASSES = ("liver", "spleen")


def make_results(gains=(0.0, 0.1), cases=20, absent=(), groups=PLAIN, classes=CLASSES):
    """Scores that rise by a gain per method; ``absent`` are pairs of a case's index and a class that it lacks."""
    generator = np.random.default_rng(0)
    scores = {}
    for fold in [fold for group in groups for fold in group.folds]:
        truth = generator.uniform(0.4, 0.6, (cases, len(classes)))
        for method, gain in enumerate(gains):
            noise = generator.normal(0, 0.01, truth.shape)
            scores[f"method {method}", fold, 1] = {
                f"case_{i}": {
                    name: dict.fromkeys(
                        (*METRICS, *VOLUMES), math.nan if (i, name) in absent else truth[i, j] + gain + noise[i, j]
                    )
                    for j, name in enumerate(classes)
                }
                for i in range(cases)
            }
    methods = tuple(dict.fromkeys(method for method, *_ in scores))
    runs = {key: Run(*key[:2], {}, ()) for key in scores}
    return Results("title", methods, classes, dict.fromkeys(classes, 1.0), groups, runs, scores)


def rows_of(table):
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def blocks_of(kind, blocks):
    """All blocks of a kind, also those that a reader has to open."""
    for block in blocks:
        if isinstance(block, kind):
            yield block
        if isinstance(block, Details):
            yield from blocks_of(kind, block.blocks)


def test_a_row_shows_the_numbers_of_its_comparison():
    results = make_results(absent=[(0, "liver"), (0, "spleen"), (2, "liver")])
    family = compare_all(results, "Dice").with_baseline
    (row,) = rows_of(baseline_table(family, METRICS["Dice"]))
    pair = CaseScores.of(results, PLAIN[0], "Dice").compare("method 1", "method 0")
    assert pair.mean == pytest.approx(pair.means[0] - pair.means[1])
    assert list(row.values()) == [
        "method 1",
        "all cases",
        family.verdict(("method 1", "all cases")),
        "19",
        f"{pair.means[0]:.3f} ({pair.means[1]:.3f})",
        f"{pair.mean:+.3f} ({pair.interval[0]:+.3f} to {pair.interval[1]:+.3f})",
        f"{pair.median:+.3f}",
        "19/0/0",
        "+1.00",
        f"{pair.p:.1e}",
        f"{pair.p:.1e}",
    ]


def test_families_hold_every_method_group_and_class_and_every_pair_of_a_metric():
    groups = (Group("6 training cases", ("0",), 6), Group("3 training cases", ("1", "2"), 3))
    of = compare_all(make_results((0, 0.1, 0.2, 0.3), groups=groups), "NSD")
    assert (of.with_baseline.tests, of.by_structure.tests, of.all_pairs.tests) == (3 * 2, 3 * 2 * 2, 6 * 2)
    for family in (of.with_baseline, of.by_structure, of.all_pairs):
        p = [pair.p for pair in family.comparisons.values()]
        assert list(family.corrected.values()) == pytest.approx(
            np.array(p) * len(p)
        )  # all have the smallest p there is


def test_structures_have_rows_ordered_by_class():
    results = make_results((0, 0.1, 0.2), absent=[(0, "liver")])
    family = compare_all(results, "ASSD").by_structure
    (table,) = blocks_of(Table, structure_details(results, family, METRICS["ASSD"]).blocks)
    rows = [(row["class"], row["method"], row["n"]) for row in rows_of(table)]
    assert rows == [(name, f"method {i}", n) for name, n in (("liver", "19"), ("spleen", "20")) for i in (1, 2)]
    pair = CaseScores.of(results, PLAIN[0], "ASSD").compare("method 2", "method 0", "spleen")
    assert rows_of(table)[-1]["median"] == f"{pair.median:+.2f}"


@pytest.mark.parametrize(("metric", "better"), [("Dice", "+"), ("HD95", "-")])
def test_the_matrix_shows_corrected_p_on_the_right_and_who_is_better(metric, better):
    """Later methods have higher values."""
    results = make_results((0, 0.1, 0.2))
    of = compare_all(results, metric)
    rows = rows_of(pairs_table(results, PLAIN[0], of))
    worse = {"+": "-", "-": "+"}[better]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        key = (f"method {i}", f"method {j}", "all cases")
        assert rows[i][str(j + 1)] == f"{of.all_pairs.corrected[key]:.1e} {worse}"
        assert rows[j][str(i + 1)] == f"{of.all_pairs.comparisons[key].p:.1e} {better}"
    assert [row["mean rank"] for row in rows] == (
        ["3.00", "2.00", "1.00"] if better == "+" else ["1.00", "2.00", "3.00"]
    )
    assert [row["method"] for row in rows] == ["1 method 0", "2 method 1", "3 method 2"]


def test_of_one_class_no_structures_are_shown_and_of_two_methods_no_pairs():
    results = make_results()
    titles = [block.title for block in blocks_of(Details, case_by_case(results))]
    assert titles == [f"{metric.label} of single structures" for metric in METRICS.values()]
    one_class = make_results((0, 0.1, 0.2), classes=("liver",))
    titles = [block.title for block in blocks_of(Details, case_by_case(one_class))]
    assert titles == [f"{metric.label} of all pairs of methods" for metric in METRICS.values()]


def test_only_the_table_of_dice_claims_and_no_other_text_does():
    """So a report claims something exactly where the tests of the confirmatory family do; its verdict repeats them."""
    title, verdict, *blocks = report(make_results((0, 0.1, 0.2)), [], "")
    assert to_markdown([title, verdict]).count("signific") == 2
    text = to_markdown(blocks).lower()
    (claiming,) = (block for block in blocks_of(Table, blocks) if "signific" in to_markdown([block]))
    assert text.count("signific") == to_markdown([claiming]).count("significantly better") == 2
    assert text.index("### dice, mean over classes") < text.index("signific") < text.index("dice of single structures")


def test_json_holds_what_the_tables_show():
    results = make_results((0, 0.1, 0.2))
    (group,) = summary(results)["groups"]
    of = compare_all(results, "NSD")
    shown = group["paired"]["method 2"]["NSD"]
    key = ("method 2", "all cases")
    assert shown["means"] == of.with_baseline.comparisons[key].means
    assert (shown["corrected_p"], shown["verdict"]) == (of.with_baseline.corrected[key], of.with_baseline.verdict(key))
    assert shown["by_structure"]["liver"]["corrected_p"] == of.by_structure.corrected[(*key, "liver")]
    pairs = group["all_pairs"]["NSD"]
    assert pairs["mean_ranks"] == {"method 0": 3, "method 1": 2, "method 2": 1}
    assert [(pair["baseline"], pair["method"], pair["p"]) for pair in pairs["pairs"]] == [
        (*key[:2], pair.p) for key, pair in of.all_pairs.comparisons.items()
    ]


def test_what_is_not_defined_is_a_dash():
    absent = [(i, name) for i in range(2) for name in CLASSES]
    results = make_results((0, 0, 0), cases=2, absent=absent)
    of = compare_all(results, "Dice")
    for row in rows_of(baseline_table(of.with_baseline, METRICS["Dice"])):
        assert row.pop("win/tie/loss") == "0/0/0"
        assert list(row.values())[1:] == ["all cases", "no case to compare", "0", *["\N{EN DASH}"] * 6]
    assert pairs_table(results, PLAIN[0], of).rows[0] == ["1 method 0", *["\N{EN DASH}"], "", *["\N{EN DASH}"] * 2]
