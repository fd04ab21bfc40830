"""Find SAM's file on this machine, or download it whole and checked."""

import contextlib
import os
import tempfile
from pathlib import Path

import filelock
import huggingface_hub
import huggingface_hub.constants
import requests
import torch
from tqdm import tqdm

from nnunetv2_tpmamba.files import sha256

from .errors import MissingSamFileError, SamFileError
from .models import HUB_FILES, VIT_B, SamModel
from .weights import read_sam_checkpoint

ENVIRONMENT_VARIABLE = "TPMAMBA_SAM_CHECKPOINT"
CONNECTION_TIMEOUT = 10.0  # s to wait for a host's answer
STALL_TIMEOUT = 60.0  # s to wait for the next bytes
LOCK_TIMEOUT = 1800.0  # s to wait for another process's download


def find_sam_checkpoint(model: SamModel | None = VIT_B, download: bool = True) -> Path:
    """Find the file of one of SAM's sizes and return its path; :func:`.weights.read_sam_checkpoint` then checks it.

    If the environment variable is set, it alone decides. Else the caches of torch and of Hugging Face are searched, and
    at last the file is downloaded.

    Args:
        model: whose file; None for an encoder whose sizes are none of SAM's, which only the variable can name.
        download: fetch the file if there is none on this machine.

    Raises:
        FileNotFoundError: the variable names no file, or no file was found and none could be downloaded.
    """
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        path = Path(named).expanduser()
        if not path.is_file():
            state = "is a folder" if path.is_dir() else "does not exist"
            raise MissingSamFileError(
                f"{ENVIRONMENT_VARIABLE} is set to {path}, which {state}; correct or unset the variable", model
            )
        return path
    if model is None:
        raise MissingSamFileError(f"{ENVIRONMENT_VARIABLE} is not set", None)
    if cached := _find_kept(_cache_folder(), model) or _find_in_hub_cache(model):
        return cached
    reasons = [
        f"no {model.title} file was found: {ENVIRONMENT_VARIABLE} is not set, {_cache_folder()} holds neither "
        f"{model.meta_file} nor {model.hub_file_kept_as}, Hugging Face's cache "
        f"{huggingface_hub.constants.HF_HUB_CACHE} holds no {model.hub_repository}"
    ]
    if download:
        try:
            return download_sam_checkpoint(model)
        except MissingSamFileError as error:
            reasons.append(error.reason)
    raise MissingSamFileError("; ".join(reasons), model)


def download_sam_checkpoint(model: SamModel = VIT_B, to: str | os.PathLike[str] | None = None) -> Path:
    """Put the file of one of SAM's sizes into a folder, from Meta or else from the Hugging Face hub; return its path.

    A file that an earlier download left there is kept; a new one appears only once it is complete and checked.

    Args:
        model: whose file.
        to: the folder, made if needed; the default is torch's cache, where ``find_sam_checkpoint`` looks.

    Raises:
        FileNotFoundError: the folder cannot be written to, or neither source delivered the file.
    """
    folder = _cache_folder() if to is None else Path(to).expanduser()
    if kept := _find_kept(folder, model):
        return kept
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise MissingSamFileError("HF_HUB_OFFLINE is set, so nothing was downloaded", model)
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".sam_{model.name}-", dir=folder)))
        except OSError as error:
            raise MissingSamFileError(
                f"cannot download into {folder} ({error.strerror}): name another folder with `--to`", model
            ) from error
        # The lock only saves a second download: two at once, where a file system has no locks, are slower but as safe.
        with contextlib.suppress(OSError, NotImplementedError):
            stack.enter_context(
                filelock.FileLock(folder / f".sam_{model.name}.lock", LOCK_TIMEOUT, fallback_to_soft=False)
            )
        if kept := _find_kept(folder, model):
            return kept
        failures = []
        hub = f"Hugging Face's {model.hub_repository}"
        for source, fetch in ((model.meta_url, _fetch_from_meta), (hub, _fetch_from_hub)):
            try:
                file = fetch(scratch, model)
                read_sam_checkpoint(file, model.config)
                return file.replace(folder / file.name)
            except Exception as error:  # the hub lets errors of its HTTP client through, and changes that client
                cause = first_cause(error)
                reason = cause.reason if isinstance(cause, SamFileError) else str(cause) or type(cause).__name__
                failures.append(f"from {source} ({reason})")
    raise MissingSamFileError(f"could not download {' nor '.join(failures)}", model)


def first_cause(error: BaseException) -> BaseException:
    """Return the error that began it, which HTTP clients wrap in three or four others, each longer than the last."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return error


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _find_kept(folder: Path, model: SamModel) -> Path | None:
    names = (model.meta_file, model.hub_file_kept_as)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _find_in_hub_cache(model: SamModel) -> Path | None:
    cached = (huggingface_hub.try_to_load_from_cache(model.hub_repository, name) for name in HUB_FILES)
    return next((Path(path) for path in cached if isinstance(path, str)), None)


def _fetch_from_meta(folder: Path, model: SamModel) -> Path:
    """Download Meta's file; torch's own function for that waits for ever when a transfer stalls."""
    file = folder / model.meta_file
    with (
        requests.get(model.meta_url, stream=True, timeout=(CONNECTION_TIMEOUT, STALL_TIMEOUT)) as answer,
        file.open("wb") as written,
        tqdm(desc=model.meta_file, unit="B", unit_scale=True) as progress,
    ):
        answer.raise_for_status()
        progress.reset(int(answer.headers.get("Content-Length", 0)) or None)
        for chunk in answer.iter_content(1 << 20):
            written.write(chunk)
            progress.update(len(chunk))
    return _checked(file, model.meta_sha256)


def _fetch_from_hub(folder: Path, model: SamModel) -> Path:
    url = huggingface_hub.hf_hub_url(model.hub_repository, HUB_FILES[0])
    if not url.startswith("https://"):  # HF_ENDPOINT says where the hub is
        raise ValueError(f"{url} is not https")
    # This question has a time limit; the download's client asks a host that it cannot reach again and again.
    published = huggingface_hub.get_hf_file_metadata(url, timeout=CONNECTION_TIMEOUT).etag  # a large file's SHA-256
    file = Path(huggingface_hub.hf_hub_download(model.hub_repository, HUB_FILES[0], local_dir=folder))
    return _checked(file, published).replace(folder / model.hub_file_kept_as)


def _checked(file: Path, published: str | None) -> Path:
    if (found := sha256(file)) != published:
        raise ValueError(f"what came has the SHA-256 {found}, published is {published}")
    return file
