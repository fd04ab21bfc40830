"""Find the image encoder of SAM among the tensors of a file, and give its tensors timm's names.

The same encoder goes by several names. Meta's files have ``image_encoder.blocks.0.mlp.lin1.weight``, timm's
``blocks.0.mlp.fc1.weight`` and those of Hugging Face's transformers ``vision_encoder.layers.0.mlp.lin1.weight``. A
training may put its own prefix before them (``module.``, ``sam.``), and the whole state dict into an entry of a larger
dict (``model``, ``model_state``, ``state_dict``). What is read follows from the names and shapes of all tensors, so a
new prefix or entry needs no change here.
"""

import re
from collections.abc import Mapping
from typing import Any

FIRST_TENSORS = re.compile(r"(?P<prefix>(?:.+\.)?)(?:pos_embed|patch_embed\.proj(?:ection)?\.weight)")
TO_TIMM = (
    (re.compile(r"^patch_embed\.projection\."), "patch_embed.proj."),  # transformers
    (re.compile(r"^layers\."), "blocks."),  # transformers
    (re.compile(r"\.layer_norm(?=[12]\.)"), ".norm"),  # transformers
    (re.compile(r"\.mlp\.lin(?=[12]\.)"), ".mlp.fc"),  # transformers and Meta
)


def find_state_dict(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict with an image encoder: ``content`` itself, or one of its entries.

    Where there is none, the result is the largest state dict, from which can be told what the file is instead.

    Raises:
        ValueError: several entries have an encoder.
    """
    if find_prefixes(content):
        return content
    entries = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    with_encoder = [name for name, value in entries.items() if find_prefixes(value)]
    if len(with_encoder) > 1:
        raise ValueError(f"holds several encoders, in its entries {' and '.join(map(repr, with_encoder))}")
    if with_encoder:
        return entries[with_encoder[0]]
    named = [value for value in entries.values() if all(isinstance(name, str) for name in value)]
    return max([content, *named], key=len)


def find_prefixes(state_dict: Mapping[Any, Any]) -> list[str]:
    """What stands before the names of an image encoder, for instance ``sam.image_encoder.``; "" if nothing does."""
    matches = (FIRST_TENSORS.fullmatch(name) for name in state_dict if isinstance(name, str))
    return sorted({match["prefix"] for match in matches if match})


def remap_to_timm(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Select the image encoder without neck and head from any layout, and give its tensors timm's names.

    Source: ``checkpoint_filter_fn`` of ``timm.models.vision_transformer_sam``, which keeps the neck and knows Meta's
    layout; ``SamVisionEncoder`` of transformers.

    Raises:
        ValueError: there are several encoders, or two tensors of one name.
    """
    prefixes = find_prefixes(state_dict) or [""]
    if len(prefixes) > 1:
        raise ValueError(f"holds several encoders, whose names begin with {' and '.join(map(repr, prefixes))}")
    encoder: dict[str, Any] = {}
    for name, tensor in state_dict.items():
        if not name.startswith(prefixes[0]):
            continue
        timms = name.removeprefix(prefixes[0])
        for pattern, replacement in TO_TIMM:
            timms = pattern.sub(replacement, timms)
        if timms in encoder:
            raise ValueError(f"holds {timms} twice, in two layouts")
        if not timms.startswith(("neck.", "head.")):
            encoder[timms] = tensor
    return encoder
