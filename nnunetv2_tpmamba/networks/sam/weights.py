"""Read and check the SAM ViT-B checkpoint.

Two files hold the same weights: Meta's ``sam_vit_b_01ec64.pth`` (all of SAM, pickled) and timm's ``model.safetensors``
(the image encoder). The content of a file decides which of the two it is, never its name. Whatever goes wrong is an
error: nothing here falls back to random weights.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

from .errors import MissingSamFileError, UnusableSamFileError


def read_sam_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read SAM ViT-B's image encoder without its neck, under timm's names, in float32, on the CPU.

    A file is accepted if it has exactly the encoder's tensors, each in its shape and finite. The values are not
    compared with Meta's, so a fine-tuned SAM ViT-B passes too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a complete SAM ViT-B, or holds more than tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise UnusableSamFileError(f"{path} is a folder")
    if not path.exists():
        raise MissingSamFileError(f"{path} does not exist")
    weights = remap_to_timm(_load_tensors(path))
    _check_is_vit_b(weights, path)
    return {name: tensor.detach().float() for name, tensor in weights.items()}


def remap_to_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the image encoder without neck and head from either layout, and give its tensors timm's names.

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


def _load_tensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        head = file.read(24)
    is_safetensors = head[8:9] == b"{"  # a JSON header follows its length
    is_torch = head.startswith((b"PK\x03\x04", b"\x80"))  # a zip archive; before torch 1.6 a bare pickle
    if not is_safetensors and not is_torch:
        state = f"is no checkpoint (it begins with {head!r})" if head else "is empty"
        raise UnusableSamFileError(f"{path} {state}")
    try:
        if is_safetensors:
            loaded = safetensors.torch.load_file(path)
        else:
            if head.startswith(b"PK"):
                _check_unpacks_to_itself(path)
            with path.open("rb") as file:  # given a path, torch goes by its extension
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # OSError, EOFError, KeyError, RuntimeError and more, depending on where the damage is
        # The new error hides its cause, because torch's text advises to load with weights_only=False.
        if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
            raise UnusableSamFileError(
                f"{path} is refused: besides tensors it holds {found[1]}, and reading that could run code"
            ) from None
        size = f"{path.stat().st_size} bytes"
        raise UnusableSamFileError(
            f"{path} ({size}) is truncated or damaged ({type(error).__name__}); delete it"
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise UnusableSamFileError(f"{path} holds no state dict")
    return loaded


def _check_unpacks_to_itself(path: Path) -> None:
    """Refuse a small zip file that would fill the memory: torch stores every tensor once, and uncompressed."""
    with zipfile.ZipFile(path) as archive:
        if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile(f"{path} unpacks to more than it holds")


def _check_is_vit_b(weights: dict[str, Tensor], path: Path) -> None:
    with torch.device("meta"):
        vit_b = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0)
    expected = {name: str(tuple(tensor.shape)) for name, tensor in remap_to_timm(vit_b.state_dict()).items()}
    found = {name: _form(value) for name, value in weights.items()}
    if found != expected:
        raise UnusableSamFileError(f"{path} is {_describe(found, expected)}")
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise UnusableSamFileError(f"{path} is damaged: {name} has values that are not finite; delete it")


def _form(value: object) -> str:
    """Describe a value by its shape if it is a plain tensor in at least half precision, and else by its kind."""
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
