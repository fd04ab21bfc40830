"""A whole comparison: from what was gathered to the files of the report."""

import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .cache import cache_folder
from .document import Block
from .figures import diagrams
from .gather import Gathered
from .overlays import overlays
from .report import write_report
from .results import Results
from .scoring import score_runs


def write_comparison(
    gathered: Gathered,
    tolerance: Mapping[str, float],
    processes: int,
    images: Mapping[str, Path],
    out: Path,
    log: Callable[[str], None],
    further: Callable[[Results], Sequence[Block]] = lambda results: (),
) -> None:
    """Score everything, write the report, and say its notes and where it is.

    Args:
        tolerance: mm within which surfaces agree, of each class.
        processes: how many work at the same time.
        images: the image of each case, or its first channel.
        out: folder of the report.
        log: receives what the user should know.
        further: what the report says besides.

    Raises:
        ValueError: files that cannot be compared, or a report that would lie in a folder that is read.
    """
    files = [*images.values(), *(path for run in gathered.runs for path in run.predictions.values())]
    check_output(out, {gathered.reference, *(file.parent for file in files)})
    results = score_runs(gathered, tolerance, processes, cache_folder())
    drawn_cases, notes = overlays(results, gathered, images)
    results = replace(results, notes=(*results.notes, *notes))
    for note in results.notes:
        log(f"Note: {note}")
    command = shlex.join(["nnUNetv2_tpmamba", *sys.argv[1:]])
    write_report(results, {**diagrams(results), **drawn_cases}, command, out, further(results))
    log(f"The report is {out / 'report.html'}")


def check_output(out: Path, read: Collection[Path]) -> None:
    """Raise ValueError if the report would lie inside a folder that is read, or such a folder inside the report's."""
    for folder in sorted(read):
        ours, theirs = out.resolve(), folder.resolve()
        if ours.is_relative_to(theirs):
            raise ValueError(f"-o {out} lies inside {folder}, which is read; name another folder with -o")
        if theirs.is_relative_to(ours):
            raise ValueError(f"{folder}, which is read, lies inside -o {out}; name another folder with -o")


def check_empty(out: Path, overwrite: bool) -> None:
    """Refuse a folder for the report that is a file, or that holds something and is not to be overwritten.

    Raises:
        FileExistsError: see above.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"-o {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise FileExistsError(f"-o {out} is not empty; name another folder, or replace its report with --overwrite")
