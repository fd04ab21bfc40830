"""The report's diagrams; the function of a diagram returns None if it would show nothing."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .case_scores import CaseScores
from .metrics import METRICS
from .results import MEAN, Results, nanmean

DPI = 110
PANEL = (4.6, 3.6)  # inches
FONT = 8  # points; size of the names of methods
CHARACTER, LINE = 0.075, 0.16  # inches; width of a character and height of a line of this font
LEGEND_COLUMNS = 4
MOST_CASES_NAMED = 12
MOST_BESIDE = 3  # panels
RESAMPLES = 2000  # of the cases
MOST_LEVEL = 3  # up to so many methods, their names fit below a panel without being turned


def training_size(results: Results) -> Figure | None:
    """Draw every metric by the number of training cases: mean, spread, and a point per draw.

    Source: figure 1(a) of the paper.
    """
    groups = [group for group in results.groups if group.training_cases is not None]
    if len(groups) < 2:
        return None
    figure, axes = panels(len(METRICS))
    for ax, (metric, of_metric) in zip(axes, METRICS.items(), strict=True):
        for index, (method, colour) in enumerate(zip(results.methods, colours(len(results.methods)), strict=True)):
            means = [results.of_group(method, group, metric)[MEAN] for group in groups]
            aside = min(1.03, 1.2 ** (1 / len(results.methods))) ** (index - (len(results.methods) - 1) / 2)
            # a little beside each other, so that no method hides another
            x = np.array([group.training_cases for group in groups], float) * aside
            spread = [0 if np.isnan(mean.spread) else mean.spread for mean in means]
            ax.errorbar(x, [m.mean for m in means], spread, marker="o", capsize=3, color=colour, label=method)
            for position, group in zip(x, groups, strict=True):
                values = [results.of_fold(method, fold, metric)[MEAN] for fold in group.folds]
                ax.plot([position] * len(values), values, ".", color=colour, alpha=0.4)
        ax.set_xscale("log")
        ticks = [group.training_cases for group in groups if group.training_cases]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("training cases")
        ax.set_ylabel(f"{of_metric.label}, mean over classes")
        ax.grid(alpha=0.3)
    return with_legend(figure, axes[0])


def convergence(results: Results) -> Figure | None:
    """Draw nnU-Net's pseudo Dice over the epochs, a thin line per training and a thick one for their mean.

    Source: figures 1(b) and 4 of the paper.
    """
    if not any(run.curve for run in results.runs.values()):
        return None
    figure, axes = panels(len(results.groups))
    for ax, group in zip(axes, results.groups, strict=True):
        for method, colour in zip(results.methods, colours(len(results.methods)), strict=True):
            curves = [curve for key in results.trainings(method, group) if (curve := results.runs[key].curve)]
            for curve in curves:
                ax.plot(range(1, len(curve) + 1), curve, color=colour, alpha=0.35, linewidth=0.8)
            common = min(map(len, curves), default=0)
            mean = np.mean([curve[:common] for curve in curves], axis=0) if curves else []
            ax.plot(range(1, common + 1), mean, color=colour, linewidth=2, label=method)
        ax.set_title(group.title)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylabel("pseudo Dice (validation patches)")
        ax.grid(alpha=0.3)
    return with_legend(figure, axes[0])


def paired(results: Results) -> Figure | None:
    """Draw the Dice of each case with each method, a line per case."""
    if len(results.methods) < 2:
        return None
    level = len(results.methods) <= MOST_LEVEL
    names = [textwrap.fill(method, 20 if level else 30) for method in results.methods]
    lines = [line for name in names for line in name.splitlines()]
    # each turned name needs the width of its lines, and all of them the length of the longest line below the panel
    each = LINE * (1 + max(name.count("\n") + 1 for name in names))
    width = PANEL[0] if level else max(PANEL[0], 1 + each * len(names))
    height = PANEL[1] if level else PANEL[1] + CHARACTER * max(map(len, lines))
    figure, axes = panels(len(results.groups), width, height)
    for ax, group in zip(axes, results.groups, strict=True):
        values = [results.of_cases(method, group, "Dice") for method in results.methods]
        cases = list(values[0])
        named = len(cases) <= MOST_CASES_NAMED
        for index, case in enumerate(cases):
            colour = colormaps["tab20"](index % 20) if named else "0.6"
            label = case if named else "_"  # legends leave such a label out
            ax.plot([of[case] for of in values], "o-", color=colour, markersize=4, linewidth=1, label=label)
        means = [nanmean(of.values()) for of in values]
        ax.plot(means, "k_", markersize=14, markeredgewidth=3, label="mean over cases")
        ax.set_xticks(range(len(values)), names, fontsize=FONT, rotation=0 if level else 90)
        ax.set_xlim(-0.4, len(values) - 0.6)
        ax.set_title(f"{group.title}, {len(cases)} test case{'s' * (len(cases) != 1)}")
        ax.set_ylabel("Dice, mean over classes")
        ax.grid(alpha=0.3, axis="y")
    return with_legend(figure, axes[0])


def mean_ranks(results: Results) -> Figure | None:
    """Draw the mean rank of each method, see :meth:`CaseScores.ranks`, and its distribution over resampled cases.

    A row of panels for each group, a panel for each metric; the methods stand in the order of their mean rank by the
    first metric, the best on top.

    Source: Wiesenfarth et al., "Methods and open-source toolkit for analyzing and visualizing challenge results",
    Scientific Reports 2021 (challengeR): rank the methods on each case, then average.
    """
    number = len(results.methods)
    if number < 3:
        return None
    size = (len(METRICS) * PANEL[0] * 0.6, len(results.groups) * (1 + LINE * 2 * number))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(results.groups), len(METRICS), squeeze=False, sharex=True, sharey="row")
    generator = np.random.default_rng(0)
    for axes, group in zip(all_axes, results.groups, strict=True):
        ranks = [CaseScores.of(results, group, metric).ranks() for metric in METRICS]
        order = np.argsort(ranks[0].sum(axis=1), kind="stable")
        for ax, of_cases, metric in zip(axes, ranks, METRICS, strict=True):
            cases = of_cases.shape[1]
            for position, method in enumerate(order if cases else ()):
                of_method, colour = of_cases[method], colours(number)[method]
                means = generator.choice(of_method, (RESAMPLES, cases)).mean(axis=1)
                counts, edges = np.histogram(means, 20, (means.min() - 0.05, means.max() + 0.05))
                half = 0.45 * counts / counts.max()
                centres = (edges[:-1] + edges[1:]) / 2
                ax.fill_between(centres, position - half, position + half, color=colour, alpha=0.3, linewidth=0)
                ax.plot(np.quantile(means, (0.025, 0.975)), [position] * 2, color=colour)
                ax.plot(of_method.mean(), position, "o", color=colour, markersize=4)
            ax.set_title(f"{metric}, {cases} case{'s' * (cases != 1)}", fontsize=FONT + 1)
            ax.grid(alpha=0.3)
        axes[0].set_yticks(range(number), [textwrap.fill(results.methods[m], 30) for m in order], fontsize=FONT)
        axes[0].set_ylim(number - 0.4, -0.6)
        axes[0].set_ylabel(group.title)
    for ax in all_axes[-1]:
        ax.set_xlabel("mean rank (1 is the best)")
    return figure


def colours(number: int) -> list[tuple[float, ...]]:
    """A colour for each method; more than 20 methods share some."""
    palette = colormaps["tab10" if number <= 10 else "tab20"]
    return [palette(index % palette.N) for index in range(number)]


def panels(number: int, width: float = PANEL[0], height: float = PANEL[1]) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels, so many beside each other that a page shows them unshrunk.

    Args:
        width, height: of one panel, in inches.
    """
    columns = 2 if number == 4 else min(number, MOST_BESIDE)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[number:]:
        unused.remove()
    return figure, axes[:number]


def with_legend(figure: Figure, ax: Axes) -> Figure:
    """Add a legend below the panels, and make the figure higher by its height."""
    handles, labels = ax.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    labels = [textwrap.fill(label, int(width / CHARACTER) - 8) for label in labels]
    columns = legend_columns(labels, width)
    figure.set_size_inches(width, height + LINE * sum(label.count("\n") + 1 for label in labels) / columns)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=FONT)
    return figure


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of labels fit into a width in inches."""
    longest = max(len(line) for label in labels for line in label.splitlines())
    return max(1, min(LEGEND_COLUMNS, len(labels), int(width / (CHARACTER * (longest + 8)))))


def png(figure: Figure) -> bytes:
    """The content of a PNG file of a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def diagrams(results: Results) -> Mapping[str, tuple[str, bytes]]:
    """Draw all diagrams that show something; returns caption and PNG by file name."""
    drawn = {
        "training_size.png": ("Scores by the number of training cases (bars: spread over draws)", training_size),
        "convergence.png": ("Convergence during training, on validation patches", convergence),
        "paired.png": ("Each test case with each method", paired),
        "ranks.png": (
            "Mean rank of each method over the test cases (point), its distribution over resampled cases, and the 95 % "
            "in the middle of it (line), which is too short where cases are few",
            mean_ranks,
        ),
    }
    with rc_context({"text.parse_math": False}):  # a name with two dollar signs is no formula
        made = {name: (caption, draw(results)) for name, (caption, draw) in drawn.items()}
        return {name: (caption, png(figure)) for name, (caption, figure) in made.items() if figure is not None}
