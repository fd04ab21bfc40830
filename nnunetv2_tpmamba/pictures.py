"""Image, truth and prediction side by side, to see what a segmentation got right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

COLUMN_INCHES = 3.6
LINE_INCHES = 0.45  # of a title, and of a line of the legend
DPI = 100
OPACITY = 0.5  # of the colours over the image
LEGEND_COLUMNS = 6


@dataclass(frozen=True)
class Comparison:
    """One case; arrays and ``spacing`` (mm) are (z, y, x), counted to the head, to the back and to the left."""

    title: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]  # by what stands above it
    spacing: tuple[float, float, float]
    window: tuple[float, float]  # the values shown black and white


def draw_comparisons(cases: Sequence[Comparison], class_names: Mapping[int, str], path: Path) -> None:
    """Write a PNG: per case an axial and below it a coronal slice, each as image, truth and predictions.

    The slices are those where the truth has most classes. The patient's right is on the left, as radiologists look.

    Args:
        cases: with the same predictions in all.
        class_names: of each label value that is not background.
    """
    colours = class_colours(sorted(class_names))
    columns = ["image", "truth", *cases[0].predictions]
    legend_lines = -(-len(class_names) // LEGEND_COLUMNS)
    heights = [[COLUMN_INCHES * proportion(case, axis) for axis in (0, 1)] for case in cases]
    total = sum(map(sum, heights)) + LINE_INCHES * (len(cases) + legend_lines + 0.5)
    figure = Figure(figsize=(len(columns) * COLUMN_INCHES, total), dpi=DPI, facecolor="black")
    FigureCanvasAgg(figure)

    y = total
    for case, case_heights in zip(cases, heights, strict=True):
        y -= LINE_INCHES
        figure.text(0.01, (y + 0.13) / total, case.title, color="white", fontsize=13)
        for axis, height in enumerate(case_heights):
            y -= height
            for column, panel in enumerate(panels(case, axis, colours)):
                left = column / len(columns)
                axes = figure.add_axes((left, y / total, 0.995 / len(columns), (height - 0.02) / total))
                axes.imshow(panel, aspect="auto")
                axes.set_axis_off()
                if axis == 0:
                    title = axes.text(0.02, 0.98, columns[column], color="white", va="top", transform=axes.transAxes)
                    title.set_bbox({"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0})
    figure.legend(
        handles=[Patch(color=colours[value], label=class_names[value]) for value in sorted(class_names)],
        loc="lower center",
        ncols=min(LEGEND_COLUMNS, len(class_names)),
        labelcolor="white",
        frameon=False,
    )
    figure.savefig(path)


def panels(case: Comparison, axis: int, colours: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """The fullest slice across ``axis`` in RGB: the image, and the image with the truth and with each prediction."""
    index = fullest_slice(case.truth, axis)
    image, *labels = (
        as_seen(np.take(volume, index, axis), axis) for volume in (case.image, case.truth, *case.predictions.values())
    )
    black, white = case.window
    grey = np.clip((image.astype(np.float32) - black) / max(white - black, 1e-6), 0, 1)
    plain = np.repeat(grey[..., None], 3, axis=-1)
    return [plain, *(tinted(plain, volume, colours) for volume in labels)]


def fullest_slice(labels: np.ndarray, axis: int) -> int:
    """The slice across ``axis`` with most classes; among equals, the one with most labelled voxels."""
    slices = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)
    voxels = np.stack(
        [(slices == value).sum(axis=1) for value in np.unique(labels) if value != 0] or [slices.sum(axis=1)]
    )
    classes = (voxels > 0).sum(axis=0)
    return int(np.argmax(classes + voxels.sum(axis=0) / (slices.shape[1] + 1)))


def as_seen(plane: np.ndarray, axis: int) -> np.ndarray:
    """A plane of a volume with the head, or the front, at the top."""
    return plane if axis == 0 else plane[::-1]


def proportion(case: Comparison, axis: int) -> float:
    """Height of a plane by its width, in mm."""
    size = np.multiply(case.image.shape, case.spacing)
    return float(size[1 - axis] / size[2])


def tinted(plain: np.ndarray, labels: np.ndarray, colours: Mapping[int, np.ndarray]) -> np.ndarray:
    result = plain.copy()
    for value, colour in colours.items():
        where = labels == value
        result[where] += OPACITY * (colour - result[where])
    return result


def label_names(description: Mapping[str, Any]) -> dict[int, str]:
    """A name for each label value above 0 in ``dataset.json``, also for those that are only parts of regions."""
    names = {value: name for name, value in description["labels"].items() if isinstance(value, int) and value > 0}
    for value in {v for region in description["labels"].values() if isinstance(region, list) for v in region}:
        names.setdefault(value, f"label {value}")
    return names


def class_colours(values: Sequence[int]) -> dict[int, np.ndarray]:
    palette = colormaps["tab10" if len(values) <= 10 else "tab20"]
    return {value: np.array(palette(i % palette.N)[:3]) for i, value in enumerate(values)}
