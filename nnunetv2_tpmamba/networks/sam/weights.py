"""Read and check a checkpoint of SAM's image encoder.

Whatever goes wrong is an error: nothing here falls back to random weights, and no file is read in part.
"""

import os
from pathlib import Path

import torch
from torch import Tensor

from nnunetv2_tpmamba.config import TPMambaConfig

from .container import read_container
from .encoder import build_encoder
from .errors import UnusableSamFileError
from .foreign import describe_foreign
from .layouts import find_state_dict, remap_to_timm
from .models import VIT_B, SamModel, model_of, model_of_width


def read_sam_checkpoint(
    path: str | os.PathLike[str],
    config: TPMambaConfig = TPMambaConfig(),  # noqa: B008 - it is frozen
) -> dict[str, Tensor]:
    """Read SAM's image encoder without its neck, under timm's names, in float32, on the CPU.

    The layout is Meta's, timm's or transformers', with any prefix, alone or as an entry of a dict; see :mod:`.layouts`.
    A file is accepted if it has exactly the encoder's tensors, each in its shape and finite. The values are not
    compared with Meta's, so a fine-tuned SAM passes too.

    Args:
        path: the file.
        config: says the sizes of the encoder; the default is SAM ViT-B.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold a complete encoder of these sizes, or holds more than tensors.
    """
    model = model_of(config)
    return _check_encoder(_read_encoder(Path(path), model), config, Path(path), model)


def read_sam_checkpoint_of_any_size(path: str | os.PathLike[str]) -> tuple[SamModel, dict[str, Tensor]]:
    """Read an encoder of whichever of SAM's sizes it has; result and errors as of :func:`read_sam_checkpoint`."""
    weights = _read_encoder(Path(path), VIT_B)
    grid = weights.get("pos_embed")
    model = (model_of_width(grid.shape[-1]) if isinstance(grid, Tensor) and grid.ndim else None) or VIT_B
    return model, _check_encoder(weights, model.config, Path(path), model)


def _read_encoder(path: Path, needed: SamModel | None) -> dict[str, Tensor]:
    content = read_container(path, needed)
    try:
        return remap_to_timm(find_state_dict(content))
    except ValueError as error:
        raise UnusableSamFileError(f"{path} {error}; save the one you want alone", needed) from None


def _check_encoder(
    weights: dict[str, Tensor], config: TPMambaConfig, path: Path, needed: SamModel | None
) -> dict[str, Tensor]:
    with torch.device("meta"):
        encoder = build_encoder(config).state_dict()
    expected = {name: str(tuple(tensor.shape)) for name, tensor in encoder.items()}
    found = {name: form(value) for name, value in weights.items()}
    if found != expected:
        raise UnusableSamFileError(f"{path} {describe_foreign(found, expected)}", needed)
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise UnusableSamFileError(f"{path} is damaged: {name} has values that are not finite; delete it", needed)
    return {name: tensor.detach().float() for name, tensor in weights.items()}


def form(value: object) -> str:
    """Describe a value by its shape if it is a plain tensor in at least half precision, and else by its kind."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.layout != torch.strided:
        return str(value.layout)
    if value.is_meta:
        return "a tensor without values"
    return str(tuple(value.shape)) if value.is_floating_point() and value.itemsize > 1 else str(value.dtype)
