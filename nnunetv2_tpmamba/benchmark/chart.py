"""A picture of the results: ratios of time and of peak memory, and the operations of the adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .report import digits
from .task import Row

WIDTH, LINE = 11.0, 0.24  # inches, of the whole picture and of a line in it
MARGIN = 0.7  # inches above and below a panel, for its title and its axis
LEFT, RIGHT = 0.47, 0.96  # where the bars' axes begin and end, as parts of the picture's width
EDGE = 0.02 - LEFT / (RIGHT - LEFT)  # where titles begin at the picture's left edge, as a part of the axes' width
DPI = 120
TIME, MEMORY, WORK = "tab:blue", "tab:orange", "tab:green"


def draw(rows: Sequence[Row], facts: Mapping[str, str], path: Path) -> None:
    """Write a PNG of ``rows``, or remove the file if they have neither ratios nor counts of operations to draw."""
    ratios = _ratio_lines(rows)
    work = [row for row in rows if row.part == "flops" and row.flops]
    panels = [lines for lines in (len(ratios), len(work)) if lines]
    if not panels:
        path.unlink(missing_ok=True)
        return
    total = sum(lines * LINE + 2 * MARGIN for lines in panels)
    figure = Figure(figsize=(WIDTH, total), dpi=DPI)
    FigureCanvasAgg(figure)
    top = total

    def panel(lines: int) -> Axes:
        nonlocal top
        top -= MARGIN + lines * LINE
        axes = figure.add_axes((LEFT, top / total, RIGHT - LEFT, lines * LINE / total))
        top -= MARGIN
        return axes

    if ratios:
        _draw_ratios(panel(len(ratios)), ratios, f"{facts['device']}, {facts['precision']}, sizes: {facts['sizes']}")
    if work:
        _draw_work(panel(len(work)), work)
    figure.savefig(path)


def _ratio_lines(rows: Sequence[Row]) -> list[tuple[str, str, float | None]]:
    """List lines of label, colour and ratio from top to bottom; a task begins with a line that has no ratio."""
    lines: list[tuple[str, str, float | None]] = []
    task = None
    for row in rows:
        for ratio, colour in ((row.time_ratio, TIME), (row.memory_ratio, MEMORY)):
            if not ratio:
                continue
            if task != (row.part, row.task):
                task = (row.part, row.task)
                lines.append((f"{row.part}: {row.task}", "black", None))
            lines.append((f"{row.name} / {row.against}" if colour == TIME or not row.time_ratio else "", colour, ratio))
    return lines


def _draw_ratios(axes: Axes, lines: Sequence[tuple[str, str, float | None]], title: str) -> None:
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    for i, (label, colour, ratio) in enumerate(lines):
        if ratio is None:
            axes.text(EDGE, i, label, transform=axes.get_yaxis_transform(), va="center", weight="bold", fontsize=9)
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
    axes.set_title(f"Ratios; left of 1 is less\n{title}", fontsize=10, loc="left", x=EDGE)


def _draw_work(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_xscale("log")
    for i, row in enumerate(rows):
        gflop = (row.flops or 0) / 1e9
        axes.text(-0.01, i, row.name, transform=axes.get_yaxis_transform(), va="center", ha="right", fontsize=9)
        axes.barh(i, gflop, height=0.7, color=WORK)
        axes.annotate(digits(gflop), (gflop, i), (3, 0), textcoords="offset points", va="center").set_fontsize(8)
    amounts = [(row.flops or 0) / 1e9 for row in rows]
    axes.set_xlim(min(amounts) / 2, max(amounts) * 3)
    _finish(axes, len(rows))
    axes.set_title(f"GFLOP: {rows[0].task}", fontsize=10, loc="left", x=EDGE)


def _finish(axes: Axes, lines: int) -> None:
    axes.set_ylim(lines - 0.4, -0.6)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
