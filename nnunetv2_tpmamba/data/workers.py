"""Runs nnU-Net's preprocessor on several cases at a time, each in a worker process."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from .cases import RawCase
from .integrity import check_intensities, check_raw_case
from .manifest import SourceFile, name_some
from .orientation import orientation_of
from .planned_data import PlannedData

FULL_DISK = 100e6  # bytes; with less left, a case probably failed because the disk is full, which blosc2 does not say


class Finished(NamedTuple):
    """What is known of a case that was preprocessed: the raw files it was made from, and how its images are stored."""

    sources: list[SourceFile]
    orientation: str
    warnings: list[str]


def preprocess_cases(
    data: PlannedData, cases: Mapping[str, RawCase], staging: Path, num_processes: int
) -> Generator[tuple[str, Finished], None, None]:
    """Write the preprocessed files of each case to ``staging``, and show the progress.

    Yields:
        as soon as a case is finished: its name, and what is known of it.

    Raises:
        RuntimeError: a worker died; or, after all other cases, some case could not be preprocessed.
    """
    if not cases:
        return
    failures = []
    workers = min(num_processes, len(cases))
    with _pool(workers) as pool:
        futures = {pool.submit(preprocess_case, data, case, files, staging): case for case, files in cases.items()}
        for future in tqdm(as_completed(futures), "Preprocessing cases", len(futures)):
            try:
                finished = future.result()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"one of {workers} preprocessing processes died, probably of too little memory; the finished "
                    "cases are kept: run again with fewer processes (-np, or nnUNet_def_n_proc for a training)"
                ) from error
            except RuntimeError as error:
                failures.append(str(error))
            else:
                yield futures[future], finished
    if failures:
        free = shutil.disk_usage(data.folder).free
        full = f"No space left: {free / 1e6:.0f} MB are free in {data.folder}; " if free < FULL_DISK else ""
        raise RuntimeError(
            f"{full}{len(failures)} of {len(cases)} cases could not be preprocessed: {name_some(failures)}; the "
            "finished cases are kept: repair or remove these and run again"
        )


def preprocess_case(data: PlannedData, case: str, files: RawCase, staging: Path) -> Finished:
    """Run nnU-Net's preprocessor for one case.

    Raises:
        RuntimeError: the case cannot be used; the message names it and says why.
    """
    try:
        sources = [SourceFile.of(path) for path in files.paths]
        plans = PlansManager(data.plans)
        configuration = plans.get_configuration(data.configuration)
        schemes = configuration.normalization_schemes
        labels = plans.get_label_manager(data.dataset_json)
        reader = plans.image_reader_writer_class
        warnings = check_raw_case(files.images, files.label, len(schemes), labels, reader)
        configuration.preprocessor_class(verbose=False).run_case_save(
            os.path.join(staging, case), files.images, files.label, plans, configuration, data.dataset_json
        )
        image, segmentation, _, properties = nnUNetDatasetBlosc2(str(staging), [case]).load_case(case)
        warnings += check_intensities(image[:], segmentation[:], schemes)
        return Finished(sources, orientation_of(properties), warnings)
    except Exception as error:  # of any kind: the message must name the case and reach the parent process
        reason = str(error) or "see the message printed above"
        raise RuntimeError(f"case {case}: {reason} ({type(error).__name__})") from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield worker processes; when the context ends, they finish the cases they have begun and no others."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker when its parent is killed; it would wait for work forever."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent reports Ctrl-C, so that a worker need not
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
