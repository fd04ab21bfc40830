"""Image, truth and prediction side by side, to see what a segmentation got right."""

import colorsys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

COLUMN_INCHES = 3.6
LINE_INCHES = 0.45  # height of a title, and of two lines of the legend
DPI = 100
OPACITY = 0.5  # of the colours over the image
LEGEND_COLUMNS = 6
CHARACTER_INCHES = 0.09  # width of a character in the columns' names and in the legend


@dataclass(frozen=True)
class CasePicture:
    """One case as it is drawn; axes are (z, y, x), towards the head, the back and the left of the patient.

    Args:
        predictions: by what is written above each.
        spacing: mm.
        window: the values shown black and white.
        without_image: why there is no image; ``image`` is then black.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]
    spacing: tuple[float, float, float]
    window: tuple[float, float]
    without_image: str = ""


@rc_context({"text.parse_math": False})  # a dollar sign in a name is no formula
def draw_case_pictures(cases: Sequence[CasePicture], class_names: Mapping[int, str], path: Path) -> None:
    """Write a PNG: per case an axial and below it a coronal slice, each as image, truth and predictions.

    The slice shown is the one where the truth has most classes. The patient's right is on the left of the picture, as
    radiologists look at it. A case of a single slice has that slice only.

    Args:
        cases: all with the same number of predictions.
        class_names: the name of each label value that is not background.
    """
    colours = class_colours(sorted(class_names))
    columns = 2 + len(cases[0].predictions)
    legend_columns = columns_of_legend(class_names, columns * COLUMN_INCHES)
    heights = [
        {axis: COLUMN_INCHES * proportion(case, axis) for axis in shown_axes(case.truth.shape)} for case in cases
    ]
    text_lines = len(cases) - (-len(class_names) // legend_columns) / 2 + 0.5
    total = sum(sum(of.values()) for of in heights) + LINE_INCHES * text_lines
    figure = Figure(figsize=(columns * COLUMN_INCHES, total), dpi=DPI, facecolor="black")
    FigureCanvasAgg(figure)

    y = total
    for case, case_heights in zip(cases, heights, strict=True):
        y -= LINE_INCHES
        figure.text(0.01, (y + 0.13) / total, case.title, color="white", fontsize=13)
        names = ["no image" if case.without_image else "image", "truth", *case.predictions]
        for axis, height in case_heights.items():
            y -= height
            for column, panel in enumerate(panels(case, axis, colours)):
                left = column / columns
                axes = figure.add_axes((left, y / total, 0.995 / columns, (height - 0.02) / total))
                axes.imshow(panel, aspect="auto")
                axes.set_axis_off()
                if axis == next(iter(case_heights)):
                    name = textwrap.fill(names[column], int(COLUMN_INCHES / CHARACTER_INCHES))
                    title = axes.text(0.02, 0.98, name, color="white", va="top", transform=axes.transAxes)
                    title.set_bbox({"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0})
    figure.legend(
        handles=[Patch(color=colours[value], label=class_names[value]) for value in sorted(class_names)],
        loc="lower center",
        ncols=legend_columns,
        labelcolor="white",
        frameon=False,
    )
    figure.savefig(path)


def columns_of_legend(class_names: Mapping[int, str], width: float) -> int:
    """How many columns of names fit into a width in inches."""
    longest = max(map(len, class_names.values()))
    return max(1, min(LEGEND_COLUMNS, len(class_names), int(width / (CHARACTER_INCHES * (longest + 6)))))


def shown_axes(shape: Sequence[int]) -> list[int]:
    """The axes across which slices are shown; a slice that would be a mere line of voxels is not."""
    return [axis for axis in (0, 1) if min(np.delete(shape, axis)) > 1] or [2]


def panels(case: CasePicture, axis: int, colours: Mapping[int, np.ndarray]) -> list[np.ndarray]:
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
    """Turn a plane of a volume so that the head, or in an axial plane the front, is at the top."""
    return plane if axis == 0 else plane[::-1]


def proportion(case: CasePicture, axis: int) -> float:
    """Height of a plane divided by its width, both in mm."""
    height, width = np.delete(np.multiply(case.truth.shape, case.spacing), axis)
    return float(height / width)


def tinted(plain: np.ndarray, labels: np.ndarray, colours: Mapping[int, np.ndarray]) -> np.ndarray:
    """An RGB image with each label's colour over it."""
    result = plain.copy()
    for value, colour in colours.items():
        where = labels == value
        result[where] += OPACITY * (colour - result[where])
    return result


def class_colours(values: Sequence[int]) -> dict[int, np.ndarray]:
    """A different colour for each value: from a palette, or evenly spaced hues, light and dark in turn."""
    count = len(values)
    if count <= 20:
        palette = [colormaps["tab10" if count <= 10 else "tab20"](i)[:3] for i in range(count)]
    else:
        palette = [colorsys.hls_to_rgb(i / count, (0.7, 0.45)[i % 2], 0.9) for i in range(count)]
    return {value: np.array(colour) for value, colour in zip(values, palette, strict=True)}
