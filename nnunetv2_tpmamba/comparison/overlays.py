"""The report's picture of three test cases: truth and predictions over the image."""

import math
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from .gather import Gathered
from .pictures import draw_case_pictures
from .results import Results
from .volumes import read_case_picture


def overlays(
    results: Results, gathered: Gathered, images: Mapping[str, Path]
) -> tuple[dict[str, tuple[str, bytes]], tuple[str, ...]]:
    """Draw the best, the median and the worst case of the first fold, by the mean Dice of all methods.

    Of repeats, the first one is drawn.

    Args:
        images: the image of each case, or its first channel; a case without an image is drawn on black.

    Returns:
        Caption and PNG by file name, empty if there is no case to show or the drawing fails; and notes on what is
        missing.
    """
    try:
        return draw_overlays(results, gathered, images)
    except Exception as error:  # a damaged file can raise anything, and the scores should not be lost with it
        reason = " ".join(str(error).split()) or type(error).__name__
        return {}, (f"The overlays are left out: {reason}",)


def draw_overlays(
    results: Results, gathered: Gathered, images: Mapping[str, Path]
) -> tuple[dict[str, tuple[str, bytes]], tuple[str, ...]]:
    """Draw as :func:`overlays` does, but raise what goes wrong."""
    group = results.groups[0]
    fold = group.folds[0]
    shown = replace(group, folds=(fold,))  # the first of its folds
    ending = gathered.description["file_ending"]
    dice = {method: results.of_its_cases((method, fold, 1), "Dice") for method in results.methods}
    ranks = ranked({case: statistics.fmean(of[case] for of in dice.values()) for case in dice[results.methods[0]]})
    readers = {run.reader for run in results.runs.values()}
    reader = readers.pop() if len(readers) == 1 else ""
    cases, not_found, notes = [], [], []
    for case, rank in ranks.items():
        files = {f"{m}, Dice {dice[m][case]:.3f}": results.runs[m, fold, 1].predictions[case] for m in results.methods}
        image = images[case] if case in images and images[case].is_file() else None
        truth = gathered.reference / f"{case}{ending}"
        cases.append(read_case_picture(f"{rank}{case}", image, truth, files, gathered.description, reader))
        if image is None:
            not_found.append(case)
        elif why := cases[-1].without_image:
            notes.append(f"{case} is drawn without its image: {why}")
    if not cases:
        return {}, ()
    caption = f"Test cases, chosen by the mean Dice of all methods{f' ({shown.named})' if fold else ''}."
    if not_found:
        caption += f" No image of {', '.join(not_found)} was found; name the folder of images with --images."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "overlays.png")
        draw_case_pictures(cases, gathered.labels.names_of_values(), path)
        return {path.name: (caption, path.read_bytes())}, tuple(notes)


def ranked(dice: Mapping[str, float]) -> dict[str, str]:
    """The best, the median and the worst case, each with the word to put before its name.

    A case without a Dice, which is NaN, is left out; fewer than three cases are all shown.
    """
    cases = sorted((case for case in dice if not math.isnan(dice[case])), key=lambda case: -dice[case])
    if len(cases) < 2:
        return dict.fromkeys(cases, "")
    median = {cases[len(cases) // 2]: "median: "} if len(cases) > 2 else {}
    return {cases[0]: "best: ", **median, cases[-1]: "worst: "}
