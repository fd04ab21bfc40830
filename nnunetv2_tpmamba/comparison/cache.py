"""Score many predictions in parallel, and keep the scores in files that are named by the content of what was scored."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

from tqdm import tqdm

from nnunetv2_tpmamba.files import whole_or_absent

from .metrics import METRICS, VOLUMES, Pair, Scores, score_pair

VERSION = 3  # raise this when a metric changes; scores cached before are then ignored


def cache_folder() -> Path:
    """``nnunetv2_tpmamba/metrics`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "nnunetv2_tpmamba", "metrics")


def score_pairs(pairs: Sequence[Pair], processes: int, folder: Path) -> list[Scores]:
    """Score all pairs; the scores come in the order of the pairs.

    Args:
        processes: how many work at the same time.
        folder: where scores are kept; if it cannot be written, none are kept.

    Raises:
        ValueError: some files cannot be compared; the scores of all others are kept.
    """
    outcomes: list[Scores | str]
    progress = partial(tqdm, total=len(pairs), desc="Measuring", unit="prediction", disable=None)
    if processes == 1:
        outcomes = [scores_or_error(pair, folder) for pair in progress(pairs)]
    else:
        workers = max(1, min(processes, len(pairs)))
        # spawned, because forking a process in which nnU-Net's readers and torch run threads can hang
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            outcomes = list(progress(pool.map(scores_or_error, pairs, repeat(folder))))
    errors = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if errors:
        # a truth that is damaged is named once, and not once for each method
        named = "\n".join(f"  {error}" for error in dict.fromkeys(errors))
        raise ValueError(f"{len(errors)} of {len(pairs)} predictions cannot be compared:\n{named}")
    return [outcome for outcome in outcomes if not isinstance(outcome, str)]


def scores_or_error(pair: Pair, folder: Path) -> Scores | str:
    """Score a pair, or return the message of its error, so that one damaged file does not lose the scores of others."""
    try:
        return score_pair_once(pair, folder)
    except ValueError as error:
        return str(error)


def score_pair_once(pair: Pair, folder: Path) -> Scores:
    """Return the scores kept for files of the same content, or else score the pair and keep its scores."""
    kept = folder / f"{cache_key(pair)}.json"
    if (known := read_scores(kept, pair.classes)) is not None:
        return known
    scores = score_pair(pair)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_or_absent(kept) as unfinished:
            unfinished.write_text(json.dumps(scores))
    except OSError:
        pass  # only the next call is slower
    return scores


def read_scores(kept: Path, classes: Collection[str]) -> Scores | None:
    """Read kept scores of these classes; None if the file is missing or holds anything else."""
    try:
        scores = {
            name: {quantity: float(values[quantity]) for quantity in (*METRICS, *VOLUMES)}
            for name, values in json.loads(kept.read_text()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return scores if scores.keys() == set(classes) else None


def cache_key(pair: Pair) -> str:
    """A name that changes with the content of both files and with all that decides their scores."""
    question = [VERSION, sorted(pair.classes.items()), pair.ignore_label, sorted(pair.tolerance.items())]
    digest = hashlib.sha256(json.dumps([*question, pair.reader.__name__, pair.with_place]).encode())
    for file in (pair.truth, pair.prediction):
        digest.update(hashlib.sha256(file.read_bytes() if file.is_file() else b"").digest())
    return digest.hexdigest()
