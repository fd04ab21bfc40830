"""Find, download, check and read the SAM ViT-B checkpoint.

Two files hold the same weights: Meta's ``sam_vit_b_01ec64.pth`` (all of SAM, pickled) and timm's ``model.safetensors``
(the image encoder). Which of the two a file is follows from its content, never from its name. Whatever goes wrong stops
the caller with an error: nothing here falls back to random weights.
"""

import contextlib
import hashlib
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import filelock
import huggingface_hub
import huggingface_hub.constants
import requests
import safetensors.torch
import timm
import torch
from torch import Tensor
from tqdm import tqdm

ENVIRONMENT_VARIABLE = "TPMAMBA_SAM_CHECKPOINT"
META_URL = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth"
META_SHA256 = "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"  # 01ec64 begins the file's MD5
META_FILE = META_URL.rpartition("/")[2]
HUB_REPOSITORY = "timm/samvit_base_patch16.sa1b"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # the first is downloaded, either is used when cached
HUB_FILE_KEPT_AS = "samvit_base_patch16.sa1b.safetensors"  # every repository of the hub has a model.safetensors

CONNECTION_TIMEOUT = 10.0  # s to wait for a host
STALL_TIMEOUT = 60.0  # s to wait for the next bytes
LOCK_TIMEOUT = 1800.0  # s to wait for another process's download

NEEDED = (
    "a SAM ViT-B file is needed: run `nnUNetv2_tpmamba weights` on a machine with internet access (and copy the file), "
    f"or set {ENVIRONMENT_VARIABLE} to a copy of Meta's {META_FILE} or of {HUB_REPOSITORY}'s {HUB_FILES[0]}"
)


def read_sam_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return SAM ViT-B's image encoder without its neck, under timm's names, in float32, on the CPU.

    A file is accepted if it has exactly the encoder's tensors, each in its shape and finite. The values are not
    compared with Meta's, so a fine-tuned SAM ViT-B passes too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a complete SAM ViT-B, or holds more than tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; {NEEDED}")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {NEEDED}")
    weights = remap_to_timm(_load_tensors(path))
    _check_is_vit_b(weights, path)
    return {name: tensor.detach().float() for name, tensor in weights.items()}


def remap_to_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the image encoder without neck and head, under timm's names, whichever of the two layouts comes in.

    Source: ``checkpoint_filter_fn`` of ``timm.models.vision_transformer_sam``, which keeps the neck.
    """
    prefix = "image_encoder."
    if any(name.startswith(prefix) for name in state_dict):
        state_dict = {
            name.removeprefix(prefix).replace(".mlp.lin", ".mlp.fc"): tensor
            for name, tensor in state_dict.items()
            if name.startswith(prefix)
        }
    return {name: tensor for name, tensor in state_dict.items() if not name.startswith(("neck.", "head."))}


def find_sam_checkpoint(download: bool = True) -> Path:
    """Return the path of the SAM ViT-B file; ``read_sam_checkpoint`` then checks it.

    The environment variable decides if it is set; then come torch's cache and Hugging Face's, then the download.

    Raises:
        FileNotFoundError: the variable names no file, or no file was found and none could be downloaded.
    """
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        path = Path(named).expanduser()
        if not path.is_file():
            state = "is a folder" if path.is_dir() else "does not exist"
            raise FileNotFoundError(
                f"{ENVIRONMENT_VARIABLE} is set to {path}, which {state}; correct or unset the variable; {NEEDED}"
            )
        return path
    if cached := _find_kept(_cache_folder()) or _find_in_hub_cache():
        return cached
    advice = NEEDED
    if download:
        try:
            return download_sam_checkpoint()
        except OSError as error:
            advice = str(error)
    raise FileNotFoundError(
        f"no SAM ViT-B file was found: {ENVIRONMENT_VARIABLE} is not set, {_cache_folder()} holds neither {META_FILE} "
        f"nor {HUB_FILE_KEPT_AS}, Hugging Face's cache {huggingface_hub.constants.HF_HUB_CACHE} holds no "
        f"{HUB_REPOSITORY}; {advice}"
    )


def download_sam_checkpoint(to: str | os.PathLike[str] | None = None) -> Path:
    """Put the SAM ViT-B file into a folder, from Meta or else from the Hugging Face hub, and return its path.

    A file that an earlier download left there is kept; a new one appears only once it is complete and checked.

    Args:
        to: the folder, made if needed; the default is torch's cache, where ``find_sam_checkpoint`` looks.

    Raises:
        OSError: the folder cannot be written to, or neither source delivered.
    """
    folder = _cache_folder() if to is None else Path(to).expanduser()
    if kept := _find_kept(folder):
        return kept
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise OSError(f"HF_HUB_OFFLINE is set, so nothing was downloaded; {NEEDED}")
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".sam_vit_b-", dir=folder)))
        except OSError as error:
            raise OSError(
                f"cannot download into {folder} ({error.strerror}): name another folder with `--to`; {NEEDED}"
            ) from error
        # The lock only spares a second download: where the file system has no locks, two are slower but as safe.
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
                reason = str(error).removesuffix(f"; {NEEDED}") or type(error).__name__
                failures.append(f"from {source} ({reason})")
    raise OSError(f"could not download {' nor '.join(failures)}; {NEEDED}")


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _find_kept(folder: Path) -> Path | None:
    return next((folder / name for name in (META_FILE, HUB_FILE_KEPT_AS) if (folder / name).is_file()), None)


def _find_in_hub_cache() -> Path | None:
    cached = (huggingface_hub.try_to_load_from_cache(HUB_REPOSITORY, name) for name in HUB_FILES)
    return next((Path(path) for path in cached if isinstance(path, str)), None)


def _fetch_from_meta(folder: Path) -> Path:
    """Not by torch's own function, which waits for ever when a transfer stalls."""
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
    # asked first, because the hub's client repeats its question to a host it cannot reach; of large files a SHA-256
    published = huggingface_hub.get_hf_file_metadata(url, timeout=CONNECTION_TIMEOUT).etag
    file = Path(huggingface_hub.hf_hub_download(HUB_REPOSITORY, HUB_FILES[0], local_dir=folder))
    return _checked(file, published).replace(folder / HUB_FILE_KEPT_AS)


def _checked(file: Path, published: str | None) -> Path:
    if (found := sha256(file)) != published:
        raise ValueError(f"what came has the SHA-256 {found}, published is {published}")
    return file


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _load_tensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        head = file.read(24)
    is_safetensors = head[8:9] == b"{"  # a JSON header follows its length
    is_torch = head.startswith((b"PK\x03\x04", b"\x80"))  # a zip archive; before torch 1.6 a bare pickle
    if not is_safetensors and not is_torch:
        state = f"is no checkpoint (it begins with {head!r})" if head else "is empty"
        raise ValueError(f"{path} {state}; {NEEDED}")
    try:
        if is_safetensors:
            loaded = safetensors.torch.load_file(path)
        else:
            if head.startswith(b"PK"):
                _check_unpacks_to_itself(path)
            with path.open("rb") as file:  # given a path, torch goes by its extension
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # OSError, EOFError, KeyError, RuntimeError and more, depending on where the damage is
        # Raised without its cause, because torch's text advises to load with weights_only=False.
        if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
            raise ValueError(
                f"{path} is refused: besides tensors it holds {found[1]}, and reading that could run code; {NEEDED}"
            ) from None
        size = f"{path.stat().st_size} bytes"
        raise ValueError(
            f"{path} ({size}) is truncated or damaged ({type(error).__name__}); delete it; {NEEDED}"
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise ValueError(f"{path} holds no state dict; {NEEDED}")
    return loaded


def _check_unpacks_to_itself(path: Path) -> None:
    """Refuse a small zip file that fills the memory: torch stores tensors uncompressed, and each once."""
    with zipfile.ZipFile(path) as archive:
        if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile(f"{path} unpacks to more than it holds")


def _check_is_vit_b(weights: dict[str, Tensor], path: Path) -> None:
    with torch.device("meta"):
        vit_b = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0)
    expected = {name: str(tuple(tensor.shape)) for name, tensor in remap_to_timm(vit_b.state_dict()).items()}
    found = {name: _form(value) for name, value in weights.items()}
    if found != expected:
        raise ValueError(f"{path} is {_describe(found, expected)}; {NEEDED}")
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path} is damaged: {name} has values that are not finite; delete it; {NEEDED}")


def _form(value: object) -> str:
    """The shape of a plain tensor in at least half precision, else what it is instead."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.layout != torch.strided:
        return str(value.layout)
    if value.is_meta:
        return "a tensor without values"
    return str(tuple(value.shape)) if value.is_floating_point() and value.itemsize > 1 else str(value.dtype)


def _describe(found: dict[str, str], expected: dict[str, str]) -> str:
    for model, width in (("SAM ViT-L", 1024), ("SAM ViT-H", 1280)):
        if found.get("pos_embed") == f"(1, 64, 64, {width})":  # a grid, without class token: SAM's alone
            return model
    missing, additional = expected.keys() - found.keys(), found.keys() - expected.keys()
    differences = [
        f"{verb} {len(names)} tensors, such as {min(names)}"
        for verb, names in (("lacks", missing), ("has in addition", additional))
        if names
    ]
    if not differences:
        name = min(name for name in expected if found[name] != expected[name])
        differences = [f"has {name} of {found[name]} where {expected[name]} is expected"]
    return f"another model: it {' and '.join(differences)}"
