"""Make sure that the data at TP-Mamba's spacing exist: made once, each file whole, and safe to interrupt.

``ensure_preprocessed`` may be called by several folds, GPUs and machines at once, may be killed at any moment, and
returns at once when there is nothing to do. In the dataset's folder it writes::

    <data_identifier>/<case>.b2nd, <case>_seg.b2nd, <case>.pkl    as nnU-Net's own preprocessor writes them
    <data_identifier>/.tpmamba/manifest.json                      what was made, see ``manifest``
    <data_identifier>/.tpmamba/lock                               held while one process works
    <data_identifier>/.tpmamba/staging-*/                         cases that are not finished yet
    gt_segmentations/<case><file ending>                          the labels, for validation, as nnU-Net copies them
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path

from nnunetv2_tpmamba.files import acquire

from .cases import RawCase, taken_for_labels
from .manifest import BOOKKEEPING, CASE_ENDINGS, CaseRecord, Manifest, name_some
from .planned_data import PlannedData
from .splits import describe_gaps
from .survey import Survey
from .workers import preprocess_cases

Log = Callable[[str], None]


def ensure_preprocessed(data: PlannedData, *, num_processes: int, log: Log, verify: bool = False) -> Path:
    """Return the folder of the preprocessed training cases, after making those that are missing or outdated.

    ``Survey.of`` decides what is outdated: a case whose raw files, settings or preprocessed files changed. The raw data
    may be absent once everything has been made.

    Args:
        data: which data, and in which folders.
        num_processes: how many cases are preprocessed at the same time.
        log: receives what the user should know; nothing when there is nothing to do.
        verify: compare the content of every file with what was written, to find damage that keeps a file's size.

    Raises:
        ValueError: wrong arguments, or a data folder this package did not make.
        OSError: raw data are needed and absent, or the folder cannot be written.
        RuntimeError: cases could not be preprocessed; the others are kept for the next attempt.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes {num_processes}: at least one process is needed; use e.g. -np 4")
    cases = data.raw_cases()
    if overlooked := taken_for_labels(cases):
        log(
            f"nnU-Net takes {name_some(overlooked)} for label maps, as the names end with _seg: its own splits and "
            "fold 'all' leave these cases out; rename them to train on them"
        )
    if cases and (gaps := describe_gaps(data.preprocessed_folder, cases)):
        log(gaps)
    survey = Survey.of(data, cases, verify)
    if survey.is_complete and survey.is_recorded:
        return data.folder
    if not cases:
        raise _raw_data_absent(data, survey)
    try:
        lock = _lock(data.folder, log)
    except OSError as error:
        if survey.is_complete:  # the folder is read-only, and only new dates of raw files would be written
            return data.folder
        raise _folder_read_only(data, survey, error) from error
    with lock:
        survey = Survey.of(data, cases, verify)  # once more: another process may have worked while this one waited
        _clean_up(data.folder, survey)
        # Written before the first case is made, so that a case without a record is known to be unfinished.
        manifest = Manifest(data.settings, {case: survey.current.get(case) for case in cases})
        manifest.write(data.folder)
        if not survey.is_complete:
            log(f"preprocessing {len(survey.outdated)} of {len(cases)} cases into {data.folder} ({survey.describe()})")
            _make(data, cases, survey, manifest, num_processes, log)
            log(f"the preprocessed data are complete: {len(cases)} cases in {data.folder}")
    return data.folder


def _raw_data_absent(data: PlannedData, survey: Survey) -> FileNotFoundError:
    if data.raw_folder is None:
        absent = "nnUNet_raw is not set"
    else:
        absent = f"there is no {data.raw_folder}/imagesTr/*_0000{data.label_ending}"
    return FileNotFoundError(
        f"{_not_ready(data, survey)}, and {absent}; {data.how_to_make} where the raw data are and copy {data.folder} "
        f"(with its hidden sub-folder {BOOKKEEPING}) and gt_segmentations here"
    )


def _folder_read_only(data: PlannedData, survey: Survey, error: OSError) -> OSError:
    return OSError(
        f"{_not_ready(data, survey)}, and the folder cannot be written ({error}); make it writable or "
        f"{data.how_to_make} where it is"
    )


def _not_ready(data: PlannedData, survey: Survey) -> str:
    return f"the preprocessed data in {data.folder} are not ready ({survey.describe()})"


def _lock(folder: Path, log: Log) -> AbstractContextManager:
    """Hold the data folder's lock, after making the folder."""
    (folder / BOOKKEEPING).mkdir(parents=True, exist_ok=True)
    return acquire(
        folder / BOOKKEEPING / "lock", log, f"another process is preparing {folder}; waiting until it is done"
    )


def _clean_up(folder: Path, survey: Survey) -> None:
    """Remove what a killed process left, and the files of cases that are no longer among the raw data."""
    for leftover in (folder / BOOKKEEPING).glob("staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for case in survey.removed:
        for ending in CASE_ENDINGS:
            (folder / f"{case}{ending}").unlink(missing_ok=True)


def _make(
    data: PlannedData,
    cases: Mapping[str, RawCase],
    survey: Survey,
    manifest: Manifest,
    num_processes: int,
    log: Log,
) -> None:
    """Make what the survey found missing; each case appears in the folder when it is whole and is then recorded."""
    with tempfile.TemporaryDirectory(
        prefix="staging-", dir=data.folder / BOOKKEEPING, ignore_cleanup_errors=True
    ) as scratch:
        staging = Path(scratch)
        for case in survey.unlabelled:
            _copy_label(data.label_copies(case, cases[case].label), staging)
        outdated = {case: cases[case] for case in survey.outdated}
        with closing(preprocess_cases(data, outdated, staging, num_processes)) as finished:
            for case, (sources, orientation, warnings) in finished:
                written = [staging / f"{case}{ending}" for ending in CASE_ENDINGS]
                record = CaseRecord.of(sources, written, orientation)
                for path in written:
                    os.replace(path, data.folder / path.name)
                _copy_label(data.label_copies(case, cases[case].label), staging)
                for warning in warnings:
                    log(f"case {case}: {warning}")
                manifest.cases[case] = record
                manifest.write(data.folder)


def _copy_label(copies: Mapping[str, Path], staging: Path) -> None:
    """Copy by way of ``staging``, because other data folders of the dataset, with other locks, make the same copies."""
    for source, copy in copies.items():
        unfinished = staging / copy.name
        shutil.copyfile(source, unfinished)  # without the mode: some raw data are read-only
        copy.parent.mkdir(exist_ok=True)
        os.replace(unfinished, copy)
