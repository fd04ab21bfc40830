"""A picture of the results: ratios of time and of peak memory, and what adapters cost, as the paper's figure 1(c)."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .report import digits
from .task import Result

WIDTH, LINE = 11.0, 0.24  # inches, of the whole picture and of a line in it
MARGIN = 0.7  # inches above and below a panel, for its title and its axis
LEFT, RIGHT = 0.47, 0.96  # where the bars' axes begin and end, as parts of the picture's width
EDGE = 0.02  # where titles begin, likewise
WORK_AND_SIZE = ((0.35, 0.69), (0.76, 0.94))  # the same for operations and parameters, which lie side by side
DPI = 120
TIME, MEMORY, WORK, SIZE = "tab:blue", "tab:orange", "tab:green", "tab:purple"


def draw(results: Sequence[Result], facts: Mapping[str, str], path: Path) -> None:
    """Write a PNG of ``results``, or remove the file if they have neither ratios nor counts of operations to draw."""
    ratios = _ratio_lines(results)
    counted = [result for result in results if result.part == "flops" and result.flops]
    work = [list(group) for _, group in groupby(counted, key=lambda result: result.task)]
    panels = [lines for lines in (len(ratios), *map(len, work)) if lines]
    if not panels:
        path.unlink(missing_ok=True)
        return
    total = sum(lines * LINE + 2 * MARGIN for lines in panels)
    figure = Figure(figsize=(WIDTH, total), dpi=DPI)
    FigureCanvasAgg(figure)
    top = total

    def panel(lines: int, *sides: tuple[float, float]) -> list[Axes]:
        nonlocal top
        top -= MARGIN + lines * LINE
        height = lines * LINE / total
        axes = [figure.add_axes((left, top / total, right - left, height)) for left, right in sides]
        top -= MARGIN
        return axes

    if ratios:
        (axes,) = panel(len(ratios), (LEFT, RIGHT))
        _draw_ratios(axes, ratios, f"{facts['device']}, {facts['precision']}, sizes: {facts['sizes']}")
    for adapters in work:
        _draw_work(adapters, *panel(len(adapters), *WORK_AND_SIZE))
    figure.savefig(path)


def _ratio_lines(results: Sequence[Result]) -> list[tuple[str, str, float | None]]:
    """List lines of label, colour and ratio from top to bottom; a task begins with a line that has no ratio."""
    lines: list[tuple[str, str, float | None]] = []
    task = None
    for result in results:
        for ratio, colour in ((result.time_ratio, TIME), (result.memory_ratio, MEMORY)):
            if not ratio:
                continue
            if task != (result.part, result.task):
                task = (result.part, result.task)
                lines.append((f"{result.part}: {result.task}", "black", None))
            label = f"{result.name} / {result.against}" if colour == TIME or not result.time_ratio else ""
            lines.append((label, colour, ratio))
    return lines


def _draw_ratios(axes: Axes, lines: Sequence[tuple[str, str, float | None]], title: str) -> None:
    edge = _edge(axes)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    for i, (label, colour, ratio) in enumerate(lines):
        if ratio is None:
            axes.text(edge, i, label, transform=axes.get_yaxis_transform(), va="center", weight="bold", fontsize=9)
            continue
        axes.text(-0.01, i, label, transform=axes.get_yaxis_transform(), va="center", ha="right", fontsize=9)
        axes.barh(i, ratio - 1, left=1, height=0.8, color=colour)
        side = "right" if ratio < 1 else "left"
        axes.annotate(
            digits(ratio), (ratio, i), (-3 if ratio < 1 else 3, 0), textcoords="offset points", va="center", ha=side
        ).set_fontsize(8)
    ratios = [ratio for _, _, ratio in lines if ratio is not None]
    axes.set_xlim(min(0.5, min(ratios) / 3), max(2, max(ratios) * 3))
    _finish(axes, len(lines))
    for colour, label, x in ((TIME, "time", 0.72), (MEMORY, "peak memory", 1.0)):
        axes.text(x, 1.0, label, color=colour, transform=axes.transAxes, va="bottom", ha="right", weight="bold")
    axes.set_title(f"Ratios; left of 1 is less\n{title}", fontsize=10, loc="left", x=edge)


def _draw_work(results: Sequence[Result], work: Axes, sizes: Axes) -> None:
    """Draw what adapters cost: multiply-adds, with a black line at a number of the paper's, and parameters."""
    amounts = [(result.flops or 0) / 2e9 for result in results]
    printed = [None if result.printed is None else result.printed / 2e9 for result in results]
    labels = [
        digits(ours) if theirs is None else f"{digits(ours, 4)} (the paper: {digits(theirs, 4)})"
        for ours, theirs in zip(amounts, printed, strict=True)
    ]
    _draw_bars(work, amounts, labels, WORK, f"G multiply-adds: {results[0].task}")
    for i, (result, theirs) in enumerate(zip(results, printed, strict=True)):
        work.text(-0.01, i, result.name, transform=work.get_yaxis_transform(), va="center", ha="right", fontsize=9)
        if theirs is not None:
            work.plot([theirs, theirs], [i - 0.45, i + 0.45], color="black", linewidth=2)
    amounts = [(result.parameters or 0) / 1e6 for result in results]
    _draw_bars(sizes, amounts, list(map(digits, amounts)), SIZE, "M parameters")


def _draw_bars(axes: Axes, amounts: Sequence[float], labels: Sequence[str], colour: str, title: str) -> None:
    axes.barh(range(len(amounts)), amounts, height=0.7, color=colour)
    for i, (amount, label) in enumerate(zip(amounts, labels, strict=True)):
        axes.annotate(label, (amount, i), (4, 0), textcoords="offset points", va="center").set_fontsize(8)
    axes.set_xlim(0, max(amounts) * 1.3)
    _finish(axes, len(amounts))
    axes.set_title(title, fontsize=10, loc="left", x=_edge(axes) if colour == WORK else 0)


def _finish(axes: Axes, lines: int) -> None:
    axes.set_ylim(lines - 0.4, -0.6)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _edge(axes: Axes) -> float:
    """Where the picture's left edge is, in parts of the width of these axes."""
    box = axes.get_position()
    return (EDGE - box.x0) / box.width
