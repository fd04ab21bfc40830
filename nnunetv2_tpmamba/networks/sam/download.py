"""Find the SAM ViT-B file on this machine, or download it whole and checked."""

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
from .weights import read_sam_checkpoint

ENVIRONMENT_VARIABLE = "TPMAMBA_SAM_CHECKPOINT"
META_URL = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth"
META_FILE = META_URL.rpartition("/")[2]
META_SHA256 = "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"  # 01ec64 begins the file's MD5
HUB_REPOSITORY = "timm/samvit_base_patch16.sa1b"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # the first is downloaded, either is used when cached
HUB_FILE_KEPT_AS = "samvit_base_patch16.sa1b.safetensors"  # every repository of the hub has a model.safetensors

CONNECTION_TIMEOUT = 10.0  # s to wait for a host's answer
STALL_TIMEOUT = 60.0  # s to wait for the next bytes
LOCK_TIMEOUT = 1800.0  # s to wait for another process's download


def find_sam_checkpoint(download: bool = True) -> Path:
    """Find the SAM ViT-B file and return its path; :func:`.weights.read_sam_checkpoint` then checks the file.

    If the environment variable is set, it alone decides. Else the caches of torch and of Hugging Face are searched, and
    at last the file is downloaded.

    Args:
        download: fetch the file if there is none on this machine.

    Raises:
        FileNotFoundError: the variable names no file, or no file was found and none could be downloaded.
    """
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        path = Path(named).expanduser()
        if not path.is_file():
            state = "is a folder" if path.is_dir() else "does not exist"
            raise MissingSamFileError(
                f"{ENVIRONMENT_VARIABLE} is set to {path}, which {state}; correct or unset the variable"
            )
        return path
    if cached := _find_kept(_cache_folder()) or _find_in_hub_cache():
        return cached
    reasons = [
        f"no SAM ViT-B file was found: {ENVIRONMENT_VARIABLE} is not set, {_cache_folder()} holds neither {META_FILE} "
        f"nor {HUB_FILE_KEPT_AS}, Hugging Face's cache {huggingface_hub.constants.HF_HUB_CACHE} holds no "
        f"{HUB_REPOSITORY}"
    ]
    if download:
        try:
            return download_sam_checkpoint()
        except MissingSamFileError as error:
            reasons.append(error.reason)
    raise MissingSamFileError("; ".join(reasons))


def download_sam_checkpoint(to: str | os.PathLike[str] | None = None) -> Path:
    """Put the SAM ViT-B file into a folder, from Meta or else from the Hugging Face hub, and return its path.

    A file that an earlier download left there is kept; a new one appears only once it is complete and checked.

    Args:
        to: the folder, made if needed; the default is torch's cache, where ``find_sam_checkpoint`` looks.

    Raises:
        FileNotFoundError: the folder cannot be written to, or neither source delivered the file.
    """
    folder = _cache_folder() if to is None else Path(to).expanduser()
    if kept := _find_kept(folder):
        return kept
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise MissingSamFileError("HF_HUB_OFFLINE is set, so nothing was downloaded")
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".sam_vit_b-", dir=folder)))
        except OSError as error:
            raise MissingSamFileError(
                f"cannot download into {folder} ({error.strerror}): name another folder with `--to`"
            ) from error
        # The lock only saves a second download: two at once, where a file system has no locks, are slower but as safe.
        with contextlib.suppress(OSError, NotImplementedError):
            stack.enter_context(filelock.FileLock(folder / ".sam_vit_b.lock", LOCK_TIMEOUT, fallback_to_soft=False))
        if kept := _find_kept(folder):
            return kept
        failures = []
        for source, fetch in ((META_URL, _fetch_from_meta), (f"Hugging Face's {HUB_REPOSITORY}", _fetch_from_hub)):
            try:
                file = fetch(scratch)
                read_sam_checkpoint(file)
                return file.replace(folder / file.name)
            except Exception as error:  # the hub lets errors of its HTTP client through, and changes that client
                cause = first_cause(error)
                reason = cause.reason if isinstance(cause, SamFileError) else str(cause) or type(cause).__name__
                failures.append(f"from {source} ({reason})")
    raise MissingSamFileError(f"could not download {' nor '.join(failures)}")


def first_cause(error: BaseException) -> BaseException:
    """Return the error that began it, which HTTP clients wrap in three or four others, each longer than the last."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return error


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _find_kept(folder: Path) -> Path | None:
    return next((folder / name for name in (META_FILE, HUB_FILE_KEPT_AS) if (folder / name).is_file()), None)


def _find_in_hub_cache() -> Path | None:
    cached = (huggingface_hub.try_to_load_from_cache(HUB_REPOSITORY, name) for name in HUB_FILES)
    return next((Path(path) for path in cached if isinstance(path, str)), None)


def _fetch_from_meta(folder: Path) -> Path:
    """Download Meta's file; torch's own function for that waits for ever when a transfer stalls."""
    file = folder / META_FILE
    with (
        requests.get(META_URL, stream=True, timeout=(CONNECTION_TIMEOUT, STALL_TIMEOUT)) as answer,
        file.open("wb") as written,
        tqdm(desc=META_FILE, unit="B", unit_scale=True) as progress,
    ):
        answer.raise_for_status()
        progress.reset(int(answer.headers.get("Content-Length", 0)) or None)
        for chunk in answer.iter_content(1 << 20):
            written.write(chunk)
            progress.update(len(chunk))
    return _checked(file, META_SHA256)


def _fetch_from_hub(folder: Path) -> Path:
    url = huggingface_hub.hf_hub_url(HUB_REPOSITORY, HUB_FILES[0])
    if not url.startswith("https://"):  # HF_ENDPOINT says where the hub is
        raise ValueError(f"{url} is not https")
    # This question has a time limit; the download's client asks a host that it cannot reach again and again.
    published = huggingface_hub.get_hf_file_metadata(url, timeout=CONNECTION_TIMEOUT).etag  # a large file's SHA-256
    file = Path(huggingface_hub.hf_hub_download(HUB_REPOSITORY, HUB_FILES[0], local_dir=folder))
    return _checked(file, published).replace(folder / HUB_FILE_KEPT_AS)


def _checked(file: Path, published: str | None) -> Path:
    if (found := sha256(file)) != published:
        raise ValueError(f"what came has the SHA-256 {found}, published is {published}")
    return file
