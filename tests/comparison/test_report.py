"""What a report says and plots, of scores made by hand."""

import json
import math
import re
from itertools import pairwise

import numpy as np
import pytest

from nnunetv2_tpmamba.comparison.case_scores import CaseScores
from nnunetv2_tpmamba.comparison.document import (
    Details,
    Heading,
    Notes,
    Paragraph,
    Picture,
    Table,
    to_html,
    to_markdown,
)
from nnunetv2_tpmamba.comparison.figures import convergence, diagrams, mean_ranks, paired, training_size
from nnunetv2_tpmamba.comparison.metrics import METRICS, VOLUMES
from nnunetv2_tpmamba.comparison.report import PICTURES, report, score_table, write_report
from nnunetv2_tpmamba.comparison.results import Group, Results, nanmean
from nnunetv2_tpmamba.comparison.runs import Run

FOLDS = (Group("6 training cases", ("0",), 6), Group("3 training cases", ("1", "2"), 3))
PLAIN = (Group("all cases", ("",)),)
CLASSES = ("liver", "spleen")
QUANTITIES = (*METRICS, *VOLUMES)


def make_results(methods=("A", "B"), groups=FOLDS, cases=4, absent=(), seed=0):
    """Random scores; ``absent`` are pairs of a case's index and a class that it lacks."""
    generator = np.random.default_rng(seed)
    runs, scores = {}, {}
    for method in methods:
        for fold in [fold for group in groups for fold in group.folds]:
            runs[method, fold, 1] = Run(method, fold, {}, tuple(generator.random(5 + int(fold or 0))) if fold else ())
            scores[method, fold, 1] = {
                f"case_{i}": {
                    name: dict.fromkeys(QUANTITIES, math.nan)
                    if (i, name) in absent
                    else dict(zip(QUANTITIES, generator.random(len(QUANTITIES)), strict=True))
                    for name in CLASSES
                }
                for i in range(cases)
            }
    return Results("title", tuple(methods), CLASSES, dict.fromkeys(CLASSES, 1.0), groups, runs, scores)


def headings(results):
    return [block.text for block in report(results, [], "") if isinstance(block, Heading) and block.level == 3]


def lines(ax):
    return {line.get_label(): list(line.get_ydata()) for line in ax.lines}


class TestDiagrams:
    def test_training_size_shows_the_means_of_the_table_and_a_point_per_draw(self):
        results = make_results()
        for ax, metric in zip(training_size(results).axes, METRICS, strict=True):
            for method, container in zip(results.methods, ax.containers, strict=True):
                expected = [results.of_group(method, group, metric)["mean"].mean for group in FOLDS]
                assert container.get_label() == method
                assert list(container.lines[0].get_ydata()) == expected
            points = sorted(y for line in ax.lines if line.get_marker() == "." for y in line.get_ydata())
            folds = [results.of_fold(method, fold, metric)["mean"] for method in "AB" for fold in "012"]
            assert points == sorted(folds)

    @pytest.mark.parametrize("number", [1, 2, 12])
    def test_points_lie_near_their_number_of_training_cases(self, number):
        ax = training_size(make_results([f"method {i}" for i in range(number)])).axes[0]
        positions = np.array([container.lines[0].get_xdata() for container in ax.containers])
        assert np.allclose(positions, [6, 3], rtol=0.1)
        assert len(np.unique(positions)) == 2 * number

    def test_convergence_shows_each_curve_and_their_mean_as_far_as_all_go(self):
        results = make_results()
        ax = convergence(results).axes[1]
        curves = [results.runs["B", fold, 1].curve for fold in "12"]
        assert [list(line.get_ydata()) for line in ax.lines][3:5] == [list(curve) for curve in curves]
        assert lines(ax)["B"] == [np.mean(values) for values in zip(*curves, strict=False)]

    def test_paired_shows_each_case_and_their_mean(self):
        results = make_results(absent=[(1, "liver")])
        for ax, group in zip(paired(results).axes, FOLDS, strict=True):
            of = [results.of_cases(method, group, "Dice") for method in "AB"]
            assert lines(ax) == {
                **{case: [of[0][case], of[1][case]] for case in of[0]},
                "mean over cases": [nanmean(values.values()) for values in of],
            }

    def test_mean_ranks_are_drawn_for_each_group_and_metric_the_best_of_dice_on_top(self):
        results = make_results("ABCD", cases=9)
        figure = mean_ranks(results)
        axes = iter(figure.axes)
        for group in FOLDS:
            by_dice = CaseScores.of(results, group, "Dice").ranks().mean(axis=1)
            order = np.argsort(by_dice)
            for metric, ax in zip(METRICS, axes, strict=False):
                means = CaseScores.of(results, group, metric).ranks().mean(axis=1)[order]
                points = [line for line in ax.lines if line.get_marker() == "o"]
                assert [line.get_xdata()[0] for line in points] == pytest.approx(means)
                assert [line.get_ydata()[0] for line in points] == [0, 1, 2, 3]
                assert ax.yaxis_inverted()
                spans = [line.get_xdata() for line in ax.lines if line.get_marker() != "o"]
                assert all(low <= mean <= high for (low, high), mean in zip(spans, means, strict=True))
                assert ax.get_title() == f"{metric}, 9 cases"

    def test_ranks_of_methods_that_never_differ_can_be_drawn(self):
        results = make_results("ABC")
        for method in "BC":
            results.scores.update({(method, fold, 1): results.scores["A", fold, 1] for fold in "012"})
        assert mean_ranks(results)
        assert mean_ranks(make_results("AB")) is None

    @pytest.mark.parametrize("number", [2, 3, 4, 12])
    def test_names_of_methods_stay_apart(self, number):
        figure = paired(make_results([f"nnUNetTrainer_with_a_long_name_{i}__plans" for i in range(number)]))
        figure.canvas.draw()
        for ax in figure.axes:
            boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
            assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
            assert all(box.y0 >= 0 for box in boxes)

    @pytest.mark.parametrize("draw", [training_size, convergence, paired])
    def test_the_legend_fits_and_leaves_room(self, draw):
        figure = draw(make_results([f"nnUNetTrainer_with_a_long_name_{i}__plans" for i in range(12)]))
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert all(ax.get_window_extent().height > 200 for ax in figure.axes)

    def test_twelve_methods_have_twelve_colours(self):
        ax = convergence(make_results([f"method {i}" for i in range(12)])).axes[0]
        assert len({line.get_color() for line in ax.lines if line.get_label().startswith("method")}) == 12

    def test_classes_that_all_cases_lack_are_no_warning(self):
        absent = [(i, name) for i in range(4) for name in CLASSES]
        assert set(diagrams(make_results("ABC", absent=absent))) == set(PICTURES) - {"overlays.png"}

    def test_nothing_to_show(self):
        assert diagrams(make_results(["A"], PLAIN)) == {}


class TestTables:
    def test_headings_say_folds_and_test_cases(self):
        assert headings(make_results())[:2] == [
            "6 training cases: fold 0 (4 test cases)",
            "3 training cases: folds 1, 2 (4 test cases each)",
        ]
        assert headings(make_results(groups=(Group("fold 0", ("0",)),)))[0] == "fold 0 (4 test cases)"
        assert headings(make_results(groups=PLAIN, cases=1))[0] == "all cases (1 test case)"

    def test_the_number_of_cases_with_each_class(self):
        results = make_results(groups=PLAIN, absent=[(0, "liver"), (0, "spleen"), (2, "liver")])
        assert score_table(results, PLAIN[0], METRICS["Dice"]).rows[-1] == ["cases", "3", "2", "3"]
        results.scores["B", "", 1]["case_2"]["liver"]["Dice"] = 0.0  # B finds what is not there
        assert score_table(results, PLAIN[0], METRICS["Dice"]).rows[-1] == ["cases", "3", "2 to 3", "3"]

    @pytest.mark.parametrize("cases", [1, 2])
    def test_what_is_not_defined_is_a_dash(self, cases):
        absent = [(i, name) for i in range(2) for name in CLASSES]
        text = to_markdown(report(make_results(cases=cases, absent=absent), [], ""))
        assert re.search("\\| \N{EN DASH} +\\|", text)
        for without_nan in (text, to_markdown(report(make_results(cases=cases), [], ""))):
            assert "nan" not in without_nan

    def test_infinite_distances_are_counted_beside_the_mean_of_the_others(self):
        results = make_results(["A"], PLAIN, absent=[(3, "spleen")])
        of = results.scores["A", "", 1]
        for case, values in enumerate([(2.0, math.inf), (4.0, math.inf), (math.inf, math.inf), (6.0, None)]):
            for name, value in zip(CLASSES, values, strict=True):
                if value is not None:
                    of[f"case_{case}"][name]["HD95"] = value
        row = score_table(results, PLAIN[0], METRICS["HD95"]).rows[0]
        assert row == ["A", "4.00, without 4 of 7", "4.00, without 1 of 4", "none of 3"]

    def test_json_holds_what_the_tables_show(self, tmp_path):
        results = make_results(absent=[(0, "liver")])
        write_report(results, {}, "", tmp_path)
        group = json.loads((tmp_path / "summary.json").read_text())["groups"][0]
        assert group["cases_with_class"] == {"liver": [3, 3], "spleen": [4, 4]}


def test_pictures_of_an_earlier_report_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "mine.png").touch()
    results = make_results()
    write_report(results, diagrams(results), "", tmp_path)
    write_report(make_results(["A"], PLAIN), {"overlays.png": ("caption", b"png")}, "", tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"mine.png", "overlays.png"}


class TestDocument:
    TEXT = "a<b>|c\\|d\ne"

    @pytest.mark.parametrize("block", [Heading(TEXT, 1), Paragraph(TEXT), Notes([TEXT]), Table([TEXT], [[TEXT]])])
    def test_markdown_holds_no_html_and_no_cell_too_many(self, block):
        for line in to_markdown([block]).strip().splitlines():
            assert "a&lt;b>\\|c\\\\\\|d e" in line or re.fullmatch(r"\|-+\|", line)

    def test_details_are_closed_and_hold_their_blocks(self):
        details = Details(self.TEXT, [Paragraph("words"), Table(["", "n"], [["a", "1"]])])
        markdown, page = to_markdown([details]), to_html("", [details])
        assert re.search(r"<details>\n<summary>a&lt;b&gt;.*</summary>\n\nwords\n\n\|.*\n\n</details>", markdown, re.S)
        assert re.search(
            r"<details><summary>a&lt;b&gt;.*</summary>\n<p>words</p>\n.*</table></div>\n</details>", page, re.S
        )

    def test_html_is_escaped(self):
        page = to_html(self.TEXT, [Heading(self.TEXT), Table([self.TEXT], [[self.TEXT]])])
        assert "<b>" not in page

    def test_a_column_of_sentences_has_a_header_aligned_with_them(self):
        page = to_html("", [Table(["", "n", "verdict"], [["a" * 50, "1", "word " * 10], ["b", "2", "short"]])])
        assert '<th class="name"><div></div></th><th class="number">n</th><th class="words">verdict</th>' in page
        assert '<td class="number">2</td><td class="words">short</td>' in page

    def test_a_wide_picture_is_not_shrunk_to_nothing(self):
        header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (5000).to_bytes(4, "big")
        assert "min-width: 3500px" in to_html("", [Picture("a.png", "a", header)])
