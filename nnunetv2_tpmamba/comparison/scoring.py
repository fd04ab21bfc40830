"""Score the trainings or folders that were gathered, on the cases that they share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_tpmamba.data.cases import files_of_cases
from nnunetv2_tpmamba.data.manifest import name_some

from .cache import score_pairs
from .gather import Gathered
from .label_maps import are_at_one_place, reader_of
from .metrics import Pair, Scores
from .results import MEAN, Key, Results
from .runs import Run


def score_runs(gathered: Gathered, tolerance: Mapping[str, float], processes: int, cache: Path) -> Results:
    """Score the cases that the runs of each fold share and whose truth is known.

    Args:
        tolerance: mm within which surfaces agree, of each class.
        processes: how many work at the same time.
        cache: folder where scores are kept.

    Raises:
        ValueError: a class that has the name of the mean, no common case, files that cannot be compared.
    """
    if MEAN in gathered.labels.classes:
        raise ValueError(
            f"a class is called {MEAN!r}, which is the name of the mean over classes; give it another name in each "
            "dataset.json, of the dataset and of the trained models"
        )
    truths = files_of_cases(gathered.reference, gathered.description["file_ending"])
    jobs, notes = common_cases(gathered.runs, truths, gathered.reference)
    examples = [truths[case] for _, case in jobs]
    readers = {name: reader_of(gathered.description, examples, name) for name in {run.reader for run in gathered.runs}}
    classes, ignored = gathered.labels.classes, gathered.labels.ignore_label
    in_place = gathered.dataset_name == ""  # nnU-Net trains and validates voxel by voxel, whatever headers say
    pairs = [
        Pair(truths[case], run.predictions[case], classes, ignored, tolerance, readers[run.reader], in_place)
        for run, case in jobs
    ]
    scores: dict[Key, dict[str, Scores]] = {}
    for (run, case), of_pair in zip(jobs, score_pairs(pairs, processes, cache), strict=True):
        scores.setdefault((run.method, run.fold, run.repeat), {})[case] = of_pair
    return Results(
        gathered.title,
        tuple(dict.fromkeys(run.method for run in gathered.runs)),
        tuple(classes),
        tolerance,
        gathered.groups,
        {(run.method, run.fold, run.repeat): run for run in gathered.runs},
        scores,
        (*gathered.notes, *notes, *elsewhere(pairs)),
        gathered.interim,
    )


def elsewhere(pairs: Sequence[Pair]) -> list[str]:
    """A note on cases whose truth and prediction lie at different places by their headers, and are compared."""
    cases = {pair.truth.name: pair for pair in pairs if not pair.with_place}  # of one method
    moved = [name for name, pair in cases.items() if not are_at_one_place(pair.truth, pair.prediction)]
    if not moved:
        return []
    return [
        f"The headers of {name_some(moved)} name another position or orientation than those of the images. Voxels are "
        "compared all the same, as nnU-Net does, so Dice is that of summary.json; see that labels and images match."
    ]


def common_cases(
    runs: Sequence[Run], truths: Mapping[str, Path], reference: Path
) -> tuple[list[tuple[Run, str]], tuple[str, ...]]:
    """Each run with each case that all runs of its fold have predicted, and notes on the cases left out.

    Args:
        truths: the file of each case's truth.
        reference: their folder, for messages.

    Raises:
        ValueError: the runs of a fold share no case whose truth is known.
    """
    by_fold: dict[str, list[Run]] = {}
    for run in runs:
        by_fold.setdefault(run.fold, []).append(run)
    jobs, notes = [], []
    for fold, of_fold in by_fold.items():
        place = f" of fold {fold}" if fold else ""
        common = set.intersection(*(set(run.predictions) for run in of_fold))
        for run in of_fold:
            if extra := sorted(set(run.predictions) - common):
                these = f"the cases {', '.join(extra)}{place}"
                notes.append(f"{run.method} has {these}, which another method lacks; they are left out.")
        if untrue := sorted(common - set(truths)):
            notes.append(f"{reference} has no truth for {', '.join(untrue)}{place}; they are left out.")
        cases = sorted(common & set(truths))
        if not cases:
            raise ValueError(
                f"there is no case{place} that all methods have predicted and whose truth is in {reference}"
            )
        jobs += [(run, case) for run in of_fold for case in cases]
    return jobs, tuple(notes)
