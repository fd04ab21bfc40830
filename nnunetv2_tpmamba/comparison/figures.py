"""The report's diagrams; each returns None where there is nothing to show."""

import io
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .results import MEAN, METRICS, Results

DPI = 110
PANEL = (4.6, 3.6)  # inches
MOST_CASES_NAMED = 12


def training_size_png(results: Results) -> bytes | None:
    """Dice and NSD by the number of training cases: mean, spread, and a point per draw.

    Source: figure 1(a) of the paper.
    """
    groups = [group for group in results.groups if group.training_cases is not None]
    if len(groups) < 2:
        return None
    figure, axes = panels(len(METRICS))
    for ax, metric in zip(axes, METRICS, strict=True):
        for index, method in enumerate(results.methods):
            colour = colormaps["tab10"](index % 10)
            means = [results.of_group(method, group, metric)[MEAN] for group in groups]
            x = np.array([group.training_cases for group in groups], float) * 1.03**index  # side by side
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
        ax.set_ylabel(f"{metric}, mean over classes")
        ax.grid(alpha=0.3)
    return png(figure, axes[0])


def convergence_png(results: Results) -> bytes | None:
    """nnU-Net's pseudo Dice over the epochs, a thin line per fold and a thick one for their mean.

    Source: figures 1(b) and 4 of the paper.
    """
    if not any(run.curve for run in results.runs.values()):
        return None
    figure, axes = panels(len(results.groups))
    for ax, group in zip(axes, results.groups, strict=True):
        for index, method in enumerate(results.methods):
            colour = colormaps["tab10"](index % 10)
            curves = [curve for fold in group.folds if (curve := results.runs[method, fold].curve)]
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
    return png(figure, axes[0])


def paired_png(results: Results) -> bytes | None:
    """Dice of each case with each method, a line per case."""
    if len(results.methods) < 2:
        return None
    figure, axes = panels(len(results.groups))
    for ax, group in zip(axes, results.groups, strict=True):
        values = [results.of_cases(method, group, METRICS[0]) for method in results.methods]
        cases = list(values[0])
        named = len(cases) <= MOST_CASES_NAMED
        for index, case in enumerate(cases):
            colour = colormaps["tab20"](index % 20) if named else "0.6"
            ax.plot([of[case] for of in values], "o-", color=colour, markersize=4, linewidth=1, label=case)
        means = [np.nanmean(list(of.values())) for of in values]
        ax.plot(means, "k_", markersize=30, markeredgewidth=3, label="mean")
        ax.set_xticks(range(len(values)), [wrapped(method) for method in results.methods], fontsize=8)
        ax.set_xlim(-0.4, len(values) - 0.6)
        ax.set_title(f"{group.title}, {len(cases)} cases")
        ax.set_ylabel("Dice, mean over classes")
        ax.grid(alpha=0.3, axis="y")
    return png(figure, axes[0], legend=len(values[0]) <= MOST_CASES_NAMED)


def wrapped(name: str, width: int = 20) -> str:
    return "\n".join(name[start : start + width] for start in range(0, len(name), width))


def panels(number: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(PANEL[0] * number, PANEL[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def png(figure: Figure, ax: Axes, legend: bool = True) -> bytes:
    handles, labels = ax.get_legend_handles_labels()
    if legend and handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=max(1, min(len(labels), 4)), fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def diagrams(results: Results) -> Mapping[str, tuple[str, bytes]]:
    """File name to caption and picture, of those there is something to show in."""
    drawn = {
        "training_size.png": ("Scores by the number of training cases (bars: spread over draws)", training_size_png),
        "convergence.png": ("Convergence during training, on validation patches", convergence_png),
        "paired.png": ("Each test case with each method", paired_png),
    }
    made = {name: (caption, draw(results)) for name, (caption, draw) in drawn.items()}
    return {name: (caption, picture) for name, (caption, picture) in made.items() if picture is not None}
