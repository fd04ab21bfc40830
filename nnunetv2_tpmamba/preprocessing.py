"""Make sure the data at TP-Mamba's spacing exist: once, whole, and safely.

``ensure_preprocessed(plans, configuration, dataset_json, *, raw_folder, preprocessed_folder, num_processes, log,
show_progress=True) -> Path`` is all a caller needs. It may be called by several folds, GPUs and machines at once, may
be killed at any moment, and returns at once when there is nothing to do. In the dataset's folder it writes::

    <data_identifier>/<case>.b2nd, <case>_seg.b2nd, <case>.pkl    as nnU-Net's own preprocessor writes them
    <data_identifier>/.tpmamba/manifest.json                      what was made, from what, with which settings
    <data_identifier>/.tpmamba/lock                               held while one process works
    <data_identifier>/.tpmamba/staging-*/                         cases that are not finished yet
    gt_segmentations/<case><file ending>                          the labels, for validation, as nnU-Net copies them

The bookkeeping has a sub-folder because nnU-Net tells a data folder's format from the files directly inside it.
"""

import filecmp
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

BOOKKEEPING = ".tpmamba"
CASE_ENDINGS = (".b2nd", "_seg.b2nd", ".pkl")  # of the files nnU-Net's preprocessor writes for one case
DEFAULT_FOLDS = 5  # of nnU-Net's default split

Log = Callable[[str], None]


class Case(NamedTuple):
    """The raw files of a training case."""

    images: list[str]
    label: str


@dataclass
class SourceFile:
    """A raw file as it was when its case was made."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass
class CaseRecord:
    """A finished case: what it was made from (the images, then the label) and the sizes of what was written."""

    sources: list[SourceFile]
    sizes: list[int]


@dataclass
class Manifest:
    """What a data folder holds: the settings it is made with and its cases, those still to be made as None."""

    settings: dict[str, Any]
    cases: dict[str, CaseRecord | None]

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Read the folder's manifest; None if it has none."""
        path = folder / BOOKKEEPING / "manifest.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            cases = {
                case: record and CaseRecord([SourceFile(**source) for source in record["sources"]], record["sizes"])
                for case, record in content["cases"].items()
            }
            return cls(content["settings"], cases)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}: {error}), so it is unknown what {folder} holds; "
                f"delete {folder}, it will be made again"
            ) from error

    def write(self, folder: Path) -> None:
        path = folder / BOOKKEEPING / "manifest.json"
        unfinished = path.with_suffix(".partial")
        unfinished.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        os.replace(unfinished, path)


@dataclass
class Survey:
    """What is there and what has to be done."""

    current: dict[str, CaseRecord] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)  # and why
    unlabelled: list[str] = field(default_factory=list)  # current, but not in gt_segmentations
    removed: list[str] = field(default_factory=list)  # no longer among the raw data
    is_recorded: bool = True  # False: the raw files' dates changed, not their content

    @property
    def is_complete(self) -> bool:
        return bool(self.current) and not (self.outdated or self.unlabelled or self.removed)


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
) -> Path:
    """Return the folder of the preprocessed training cases, after making those that are missing or outdated.

    A case is made again when the size or the content of one of its raw files changed, when the settings changed, or
    when one of its files is not there in its full size. A raw file of the same size and date is taken to be the same.

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

    Raises:
        ValueError: wrong arguments, or a data folder this package did not make.
        OSError: raw data are needed and absent, or the folder cannot be written.
        RuntimeError: cases could not be preprocessed; the others are kept for the next attempt.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes {num_processes}: at least one process is needed; use e.g. -np 4")
    folder = preprocessed_folder / plans["configurations"][configuration]["data_identifier"]
    settings = _settings(plans, configuration, dataset_json)
    problem = _problem_with_raw_data(raw_folder, dataset_json)
    if raw_folder is None or problem is not None:
        survey = _survey(folder, settings, None, dataset_json)
        if not survey.is_complete:
            raise FileNotFoundError(
                f"the preprocessed data in {folder} {_what_is_wrong(survey)}, and {problem}, so they cannot be made "
                f"here; make the raw data available, or {_how_to_make(plans, configuration)} where they are and "
                f"copy {folder} (with its hidden sub-folder {BOOKKEEPING}) and {_labels_folder(folder)} here"
            )
        return folder

    cases = training_cases(raw_folder, dataset_json)
    if len(cases) < DEFAULT_FOLDS and not (preprocessed_folder / "splits_final.json").is_file():
        log(
            f"only {len(cases)} of the {DEFAULT_FOLDS} training cases that nnU-Net's default split needs; train with "
            f"fold 'all' or write a split of your own to {preprocessed_folder / 'splits_final.json'}"
        )
    survey = _survey(folder, settings, cases, dataset_json)
    if survey.is_complete and survey.is_recorded:
        return folder

    try:
        lock = _acquire_lock(folder, log)
    except OSError as error:
        if survey.is_complete:  # there are only new dates to write down
            return folder
        raise OSError(
            f"the preprocessed data in {folder} {_what_is_wrong(survey)}, and the folder cannot be written ({error}); "
            f"make it writable or {_how_to_make(plans, configuration)} where it is"
        ) from error
    try:
        survey = _survey(folder, settings, cases, dataset_json)  # another process may have worked while we waited
        _remove_leftovers(folder, survey, log)
        # before the first case is made: from here on, what is in the folder and not recorded is known to be unfinished
        manifest = Manifest(settings, {case: survey.current.get(case) for case in cases})
        manifest.write(folder)
        for case in survey.unlabelled:
            _copy_label(cases[case].label, _label_copy(folder, case, dataset_json))
        if survey.outdated:
            log(f"preprocessing {len(survey.outdated)} of {len(cases)} cases into {folder} ({_by_reason(survey)})")
            outdated = {case: cases[case] for case in survey.outdated}
            _make(folder, manifest, outdated, plans, configuration, dataset_json, num_processes, show_progress)
            log(f"the preprocessed data are complete: {len(cases)} cases in {folder}")
    finally:
        lock.release()
    return folder


def training_cases(raw_folder: Path, dataset_json: dict[str, Any]) -> dict[str, Case]:
    """List the training cases of a raw dataset, as nnU-Net does but without its pool of processes.

    Raises:
        FileNotFoundError: a case lacks its label, or a file that dataset.json lists.
    """
    if "dataset" in dataset_json:
        listed = get_filenames_of_train_images_and_targets(str(raw_folder), deepcopy(dataset_json))
        cases = {case: Case(files["images"], files["label"]) for case, files in listed.items()}
    else:
        ending = dataset_json["file_ending"]
        cases = {}
        for name in sorted(os.listdir(raw_folder / "imagesTr")):
            if match := re.fullmatch(rf"(.+)_\d{{4}}{re.escape(ending)}", name):
                label = raw_folder / "labelsTr" / f"{match[1]}{ending}"
                cases.setdefault(match[1], Case([], str(label))).images.append(str(raw_folder / "imagesTr" / name))
    for case, files in cases.items():
        for path in (*files.images, files.label):
            if not os.path.isfile(path):
                raise FileNotFoundError(f"case {case}: {path} does not exist; restore it or remove the case")
    return cases


def _settings(plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the content of the preprocessed files; the patch size, which does not, is left out."""
    chosen = plans["configurations"][configuration]
    labels = dataset_json["labels"]
    settings = {
        "preprocessor": chosen["preprocessor_name"],
        "reader": plans["image_reader_writer"],
        "transpose": plans["transpose_forward"],
        "spacing": chosen["spacing"],
        "normalization": chosen["normalization_schemes"],
        "intensities": _intensities(plans, chosen["normalization_schemes"]),
        "mask for normalization": chosen["use_mask_for_norm"],
        "image resampling": [chosen["resampling_fn_data"], chosen["resampling_fn_data_kwargs"]],
        "label resampling": [chosen["resampling_fn_seg"], chosen["resampling_fn_seg_kwargs"]],
        "labels": [list(labels.values()), labels.get("ignore")],  # nnU-Net stores where each label is
    }
    return json.loads(json.dumps(settings))  # as they will be read back


def _intensities(plans: dict[str, Any], schemes: list[str]) -> list[dict[str, float]]:
    """The intensity statistics each channel's normalisation uses; the others change with every new case."""
    used = {
        "CTNormalization": {"percentile_00_5", "percentile_99_5", "mean", "std"},
        "ZScoreNormalization": set[str](),
        "NoNormalization": set[str](),
        "RescaleTo01Normalization": set[str](),
        "RGBTo01Normalization": set[str](),
    }
    statistics = PlansManager(plans).foreground_intensity_properties_per_channel
    return [
        {name: value for name, value in statistics[str(channel)].items() if name in used.get(scheme, {name})}
        for channel, scheme in enumerate(schemes)
    ]


def _problem_with_raw_data(raw_folder: Path | None, dataset_json: dict[str, Any]) -> str | None:
    if raw_folder is None:
        return "the environment variable nnUNet_raw is not set"
    if not raw_folder.is_dir():
        return f"the raw data {raw_folder} do not exist"
    if "dataset" in dataset_json:
        return None if dataset_json["dataset"] else "dataset.json lists no training case"
    images = raw_folder / "imagesTr"
    if not images.is_dir():
        return f"the raw data {images} do not exist"
    pattern = f"*_[0-9][0-9][0-9][0-9]{dataset_json['file_ending']}"
    return None if any(images.glob(pattern)) else f"{images} holds no image <case>_0000{dataset_json['file_ending']}"


def _labels_folder(folder: Path) -> Path:
    return folder.parent / "gt_segmentations"


def _label_copy(folder: Path, case: str, dataset_json: dict[str, Any]) -> Path:
    return _labels_folder(folder) / f"{case}{dataset_json['file_ending']}"


def _survey(
    folder: Path, settings: dict[str, Any], cases: dict[str, Case] | None, dataset_json: dict[str, Any]
) -> Survey:
    """Compare the data folder with the settings and with the raw cases; with itself alone if ``cases`` is None."""
    has_data = any(folder.glob("*.b2nd"))  # before reading the manifest, which is written before the data
    manifest = Manifest.read(folder)
    if manifest is None:
        if has_data:
            raise ValueError(
                f"{folder} holds data, but no {BOOKKEEPING}/manifest.json that says how they were made; copy that "
                "hidden sub-folder too, or delete the folder, it will be made again"
            )
        manifest = Manifest(settings, {})
    survey = Survey()
    if cases is not None:
        survey.removed = [case for case in manifest.cases if case not in cases]
    for case in manifest.cases if cases is None else cases:
        record = manifest.cases.get(case)
        if record is None:
            survey.outdated[case] = "not made yet"
        elif manifest.settings != settings:
            survey.outdated[case] = f"made with other settings ({_difference(manifest.settings, settings)})"
        elif [_size(folder / f"{case}{ending}") for ending in CASE_ENDINGS] != record.sizes:
            survey.outdated[case] = "preprocessed file missing or damaged"
        else:
            sources = record.sources if cases is None else _still_the_same(cases[case], record.sources)
            if sources is None:
                survey.outdated[case] = "image or label changed"
                continue
            survey.is_recorded &= sources == record.sources
            survey.current[case] = CaseRecord(sources, record.sizes)
            if _size(_label_copy(folder, case, dataset_json)) != sources[-1].size:
                survey.unlabelled.append(case)
    return survey


def _still_the_same(case: Case, recorded: list[SourceFile]) -> list[SourceFile] | None:
    """The raw files with their present dates if their contents are as recorded, else None."""
    paths = [*case.images, case.label]
    if len(paths) != len(recorded):
        return None
    sources = []
    for path, known in zip(paths, recorded, strict=True):
        stat = os.stat(path)
        if stat.st_size != known.size:
            return None
        if stat.st_mtime_ns != known.mtime_ns:
            source = _fingerprint(path)
            if source.sha256 != known.sha256:
                return None
            known = source
        sources.append(known)
    return sources


def _fingerprint(path: str) -> SourceFile:
    stat = os.stat(path)  # before reading: a file that changes meanwhile must not look unchanged later
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return SourceFile(stat.st_size, stat.st_mtime_ns, digest.hexdigest())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [name for name in now if before.get(name) != now[name]]
    return ", ".join(f"{name} {before.get(name)} instead of {now[name]}" for name in changed)


def _by_reason(survey: Survey) -> str:
    reasons: dict[str, list[str]] = {}
    for case, reason in survey.outdated.items():
        reasons.setdefault(reason, []).append(case)
    return "; ".join(f"{reason}: {_enumerate(cases)}" for reason, cases in reasons.items())


def _enumerate(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _what_is_wrong(survey: Survey) -> str:
    if survey.outdated:
        cases = len(survey.outdated) + len(survey.current)
        return f"lack {len(survey.outdated)} of {cases} cases ({_by_reason(survey)})"
    if survey.unlabelled:
        return f"lack labels for validation ({_enumerate(survey.unlabelled)})"
    if survey.removed:
        return f"hold cases that the raw data no longer have ({_enumerate(survey.removed)})"
    return "do not exist"


def _how_to_make(plans: dict[str, Any], configuration: str) -> str:
    identifier = plans["configurations"][configuration]["data_identifier"]
    if identifier.endswith("_tpmamba"):
        return (
            f"run `nnUNetv2_tpmamba preprocess -d {plans['dataset_name']} -c {configuration} -p {plans['plans_name']}`"
        )
    return "start this training"  # with settings of its own, which the command does not know


def _acquire_lock(folder: Path, log: Log) -> FileLock:
    (folder / BOOKKEEPING).mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / BOOKKEEPING / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"another process is preparing {folder}; waiting until it is done (it holds {lock.lock_file})")
        lock.acquire(poll_interval=0.5)
    return lock


def _remove_leftovers(folder: Path, survey: Survey, log: Log) -> None:
    for leftover in (folder / BOOKKEEPING).glob("staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if survey.removed:
        log(f"removing from {folder}, because the raw data no longer have them: {_enumerate(survey.removed)}")
    for case in survey.removed:
        for ending in CASE_ENDINGS:
            (folder / f"{case}{ending}").unlink(missing_ok=True)


def _make(
    folder: Path,
    manifest: Manifest,
    cases: dict[str, Case],
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    num_processes: int,
    show_progress: bool,
) -> None:
    """Preprocess the cases in parallel; each appears in the folder when it is whole and is then recorded."""
    failures = {}
    with tempfile.TemporaryDirectory(
        prefix="staging-", dir=folder / BOOKKEEPING, ignore_cleanup_errors=True
    ) as staging:
        pool = ProcessPoolExecutor(
            min(num_processes, len(cases)), multiprocessing.get_context("spawn"), initializer=_start_worker
        )
        try:
            futures = {
                pool.submit(_preprocess_case, staging, case, files, plans, configuration, dataset_json): case
                for case, files in cases.items()
            }
            done = tqdm(as_completed(futures), "Preprocessing cases", len(futures), disable=not show_progress)
            for future in done:
                case = futures[future]
                try:
                    sources = future.result()
                except BrokenProcessPool as error:
                    raise RuntimeError(
                        f"one of {num_processes} preprocessing processes died without a message, most often because "
                        "the memory ran out; the finished cases are kept: run the same command again with fewer "
                        "processes (-np, or for a training the environment variable nnUNet_def_n_proc)"
                    ) from error
                except RuntimeError as error:
                    failures[case] = str(error)
                    continue
                finished = [Path(staging) / f"{case}{ending}" for ending in CASE_ENDINGS]
                sizes = [path.stat().st_size for path in finished]
                for path in finished:
                    os.replace(path, folder / path.name)
                _copy_label(cases[case].label, _label_copy(folder, case, dataset_json))
                manifest.cases[case] = CaseRecord(sources, sizes)
                manifest.write(folder)
        finally:
            pool.shutdown(cancel_futures=True)
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {len(cases)} cases could not be preprocessed: {'; '.join(list(failures.values())[:5])}"
            f"{' and more' if len(failures) > 5 else ''}; the finished cases are kept: run the same command again once "
            "this is repaired"
        )


def _copy_label(label: str, copy: Path) -> None:
    if copy.is_file() and filecmp.cmp(label, copy, shallow=False):
        return
    copy.parent.mkdir(exist_ok=True)
    unfinished = copy.with_name(f".{copy.name}.partial")
    unfinished.unlink(missing_ok=True)  # it may be read-only, as some raw data are
    shutil.copy2(label, unfinished)
    os.replace(unfinished, copy)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to report
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent was killed; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _preprocess_case(
    staging: str, case: str, files: Case, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> list[SourceFile]:
    """Run nnU-Net's preprocessor for one case, in a worker; return what it was made from."""
    try:
        sources = [_fingerprint(path) for path in (*files.images, files.label)]
        plans_manager = PlansManager(plans)
        configuration_manager = plans_manager.get_configuration(configuration)
        channels = len(configuration_manager.normalization_schemes)
        if len(files.images) > channels:
            raise ValueError(
                f"{len(files.images)} images, but dataset.json names {channels} channels; remove the others"
            )
        preprocessor = configuration_manager.preprocessor_class(verbose=False)
        preprocessor.run_case_save(
            os.path.join(staging, case), files.images, files.label, plans_manager, configuration_manager, dataset_json
        )
        data, *_ = nnUNetDatasetBlosc2(staging, [case]).load_case(case)
        if len(data) < channels:
            raise ValueError(f"{len(data)} image channels, but dataset.json names {channels}; add the missing files")
        if not np.isfinite(data[:]).all():
            raise ValueError("the images have voxels that are not finite numbers; repair them or remove the case")
        return sources
    except Exception as error:  # whatever it is, it must name the case and survive the way to the parent process
        reason = str(error) or "see the message printed above"
        raise RuntimeError(f"case {case}: {reason} ({type(error).__name__})") from error
