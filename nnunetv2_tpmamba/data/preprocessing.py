"""Make sure the data at TP-Mamba's spacing exist: once, whole, and safely.

``ensure_preprocessed`` may be called by several folds, GPUs and machines at once, may be killed at any moment, and
returns at once when there is nothing to do. In the dataset's folder it writes::

    <data_identifier>/<case>.b2nd, <case>_seg.b2nd, <case>.pkl    as nnU-Net's own preprocessor writes them
    <data_identifier>/.tpmamba/manifest.json                      what was made, see ``manifest``
    <data_identifier>/.tpmamba/lock                               held while one process works
    <data_identifier>/.tpmamba/staging-*/                         cases that are not finished yet
    gt_segmentations/<case><file ending>                          the labels, for validation, as nnU-Net copies them
"""

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from nnunetv2_tpmamba.locks import acquire

from .integrity import check_intensities, check_raw_case
from .manifest import (
    BOOKKEEPING,
    CASE_ENDINGS,
    Case,
    CaseRecord,
    Manifest,
    SourceFile,
    data_settings,
    label_copy,
    name_some,
    training_cases,
)
from .splits import describe_gaps
from .survey import Survey

LITTLE_SPACE = 100e6  # bytes; blosc2 does not say that the disk is full

Log = Callable[[str], None]


def ensure_preprocessed(
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    *,
    raw_folder: Path | None,
    preprocessed_folder: Path,
    num_processes: int,
    log: Log,
    show_progress: bool = True,
    verify: bool = False,
) -> Path:
    """Return the folder of the preprocessed training cases, after making those that are missing or outdated.

    What is outdated, ``survey.Survey.of`` decides: a case whose raw files, settings or preprocessed files changed.

    Args:
        plans: derived plans, see ``plans.derive_plans``.
        configuration: the configuration in them.
        dataset_json: the dataset's description.
        raw_folder: the dataset's folder in nnUNet_raw, None if nnUNet_raw is not set. The raw data may be absent when
            everything has been made before.
        preprocessed_folder: the dataset's folder in nnUNet_preprocessed.
        num_processes: cases preprocessed at the same time.
        log: receives what the user should know; nothing when there is nothing to do.
        show_progress: show a progress bar while cases are made.
        verify: read all that is there and compare it with what was written, to find damage that keeps a file's size.

    Raises:
        ValueError: wrong arguments, or a data folder this package did not make.
        OSError: raw data are needed and absent, or the folder cannot be written.
        RuntimeError: cases could not be preprocessed; the others are kept for the next attempt.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes {num_processes}: at least one process is needed; use e.g. -np 4")
    folder = preprocessed_folder / plans["configurations"][configuration]["data_identifier"]
    ending = dataset_json["file_ending"]
    settings = data_settings(plans, configuration, dataset_json)
    cases = training_cases(raw_folder, dataset_json) if raw_folder is not None and raw_folder.is_dir() else {}
    if cases and (gaps := describe_gaps(preprocessed_folder, cases)):
        log(gaps)

    survey = Survey.of(folder, settings, cases, ending, verify)
    if survey.is_complete and survey.is_recorded:
        return folder
    problem = f"the preprocessed data in {folder} are not ready ({survey.describe()})"
    if not cases:
        absent = f"there is no {raw_folder}/imagesTr/*_0000{ending}" if raw_folder else "nnUNet_raw is not set"
        raise FileNotFoundError(
            f"{problem}, and {absent}; {_how_to_make(plans, configuration)} where the raw data are and copy {folder} "
            f"(with its hidden sub-folder {BOOKKEEPING}) and gt_segmentations here"
        )
    try:
        (folder / BOOKKEEPING).mkdir(parents=True, exist_ok=True)
        waiting = f"another process is preparing {folder}; waiting until it is done"
        lock = acquire(folder / BOOKKEEPING / "lock", log, waiting)
    except OSError as error:
        if survey.is_complete:  # there are only new dates to write down
            return folder
        raise OSError(
            f"{problem}, and the folder cannot be written ({error}); make it writable or "
            f"{_how_to_make(plans, configuration)} where it is"
        ) from error
    with lock:
        # once more: another process may have worked while we waited
        survey = Survey.of(folder, settings, cases, ending, verify)
        for leftover in (folder / BOOKKEEPING).glob("staging-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for name in (f"{case}{suffix}" for case in survey.removed for suffix in CASE_ENDINGS):
            (folder / name).unlink(missing_ok=True)
        # before the first case is made: from here on, what is in the folder and not recorded is known to be unfinished
        manifest = Manifest(settings, {case: survey.current.get(case) for case in cases})
        manifest.write(folder)
        if survey.is_complete:
            return folder
        log(f"preprocessing {len(survey.outdated)} of {len(cases)} cases into {folder} ({survey.describe()})")
        with tempfile.TemporaryDirectory(
            prefix="staging-", dir=folder / BOOKKEEPING, ignore_cleanup_errors=True
        ) as staging:
            for case in survey.unlabelled:
                _copy_label(cases[case].label, label_copy(folder, case, ending), staging)
            if survey.outdated:
                outdated = {case: cases[case] for case in survey.outdated}
                make = partial(preprocess_case, plans=plans, configuration=configuration, dataset_json=dataset_json)
                _make(folder, staging, manifest, outdated, make, ending, num_processes, show_progress, log)
        log(f"the preprocessed data are complete: {len(cases)} cases in {folder}")
    return folder


def preprocess_case(
    staging: str, case: str, files: Case, *, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> tuple[list[SourceFile], list[str]]:
    """Run nnU-Net's preprocessor for one case, in a worker; return what it was made from, and warnings.

    Raises:
        RuntimeError: the case cannot be used; the message names it and says why.
    """
    try:
        sources = [SourceFile.of(path) for path in files.paths]
        plans_manager = PlansManager(plans)
        configuration_manager = plans_manager.get_configuration(configuration)
        schemes = configuration_manager.normalization_schemes
        labels = plans_manager.get_label_manager(dataset_json)
        reader = plans_manager.image_reader_writer_class
        warnings = check_raw_case(files.images, files.label, len(schemes), labels, reader)
        configuration_manager.preprocessor_class(verbose=False).run_case_save(
            os.path.join(staging, case), files.images, files.label, plans_manager, configuration_manager, dataset_json
        )
        data, segmentation, *_ = nnUNetDatasetBlosc2(staging, [case]).load_case(case)
        return sources, [*warnings, *check_intensities(data[:], segmentation[:], schemes)]
    except Exception as error:  # whatever it is, it must name the case and survive the way to the parent process
        reason = str(error) or "see the message printed above"
        raise RuntimeError(f"case {case}: {reason} ({type(error).__name__})") from error


def _how_to_make(plans: dict[str, Any], configuration: str) -> str:
    if plans["configurations"][configuration]["data_identifier"].endswith("_tpmamba"):
        return (
            f"run `nnUNetv2_tpmamba preprocess -d {plans['dataset_name']} -c {configuration} -p {plans['plans_name']}`"
        )
    return "start this training"  # with settings of its own, which the command does not know


def _make(
    folder: Path,
    staging: str,
    manifest: Manifest,
    cases: dict[str, Case],
    make: Callable[[str, str, Case], tuple[list[SourceFile], list[str]]],
    label_ending: str,
    num_processes: int,
    show_progress: bool,
    log: Log,
) -> None:
    """Preprocess the cases in parallel; each appears in the folder when it is whole and is then recorded."""
    failures = []
    workers = min(num_processes, len(cases))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        futures = {pool.submit(make, staging, case, files): case for case, files in cases.items()}
        for future in tqdm(as_completed(futures), "Preprocessing cases", len(futures), disable=not show_progress):
            case = futures[future]
            try:
                sources, warnings = future.result()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"one of {workers} preprocessing processes died, probably of too little memory; the finished "
                    "cases are kept: run again with fewer processes (-np, or nnUNet_def_n_proc for a training)"
                ) from error
            except RuntimeError as error:
                failures.append(str(error))
                continue
            finished = [Path(staging) / f"{case}{ending}" for ending in CASE_ENDINGS]
            record = CaseRecord.of(sources, finished)
            for path in finished:
                os.replace(path, folder / path.name)
            _copy_label(cases[case].label, label_copy(folder, case, label_ending), staging)
            for warning in warnings:
                log(f"case {case}: {warning}")
            manifest.cases[case] = record
            manifest.write(folder)
    finally:
        pool.shutdown(cancel_futures=True)
    if failures:
        free = shutil.disk_usage(folder).free
        full = f"No space left: {free / 1e6:.0f} MB are free in {folder}; " if free < LITTLE_SPACE else ""
        raise RuntimeError(
            f"{full}{len(failures)} of {len(cases)} cases could not be preprocessed: {name_some(failures)}; the "
            "finished cases are kept: repair or remove these and run again"
        )


def _copy_label(label: str, copy: Path, staging: str) -> None:
    """By way of ``staging``: other data folders of the dataset, with locks of their own, may make the same copy."""
    unfinished = Path(staging, copy.name)
    shutil.copyfile(label, unfinished)  # without the mode: some raw data are read-only
    copy.parent.mkdir(exist_ok=True)
    os.replace(unfinished, copy)


def _end_with_parent() -> None:
    """End this worker when its parent is killed; it would wait for work forever."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to report
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
