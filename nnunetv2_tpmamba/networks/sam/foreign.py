"""Say what a file is that holds no image encoder of the wanted size."""

import re
from collections.abc import Mapping

from .models import model_of_width

ADAPTER = re.compile(r"(?:^|[._])(?:lora|adapter|fact[suv]|w_[ab]_|linear_[ab]_|base_layer)", re.IGNORECASE)
"""Names of adapters: LoRA of PEFT, SAMed and micro-sam, FacT and adapters of MA-SAM, adapters of SAM-Med2D."""
OTHER_ENCODERS = {
    r"pos_embed_window": "SAM 2, whose encoder is a Hiera and no ViT",
    r"(?:.+\.)?layers\.\d+\.blocks\.\d+\.local_conv\..*": "a SAM with a TinyViT, such as MobileSAM or LiteMedSAM",
}
POSITION_GRID = re.compile(r"\(1, (?P<side>\d+), (?P=side), (?P<width>\d+)\)")  # without class token: SAM's alone
SAVE_MERGED = "merge them into the weights that they change, and save the encoder"


def describe_foreign(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Describe a file by the names and forms of its tensors.

    Args:
        found: what each tensor of the file is, by timm's name, see :func:`.weights.form`.
        expected: the same of the encoder that is wanted.

    Returns:
        the predicate of a sentence about the file.
    """
    grid, wanted_grid = (POSITION_GRID.fullmatch(forms.get("pos_embed", "")) for forms in (found, expected))
    adapters = sorted(name for name in found.keys() - expected.keys() if ADAPTER.search(name))
    if grid and wanted_grid and grid["width"] != wanted_grid["width"]:
        if model := model_of_width(int(grid["width"])):
            return f"is {model.title}, which is for -tr {model.trainer}"
    elif grid and wanted_grid and grid["side"] != wanted_grid["side"]:
        sides, wanted = (f"{match['side']} x {match['side']}" for match in (grid, wanted_grid))
        like = f", and adapters such as {adapters[0]}: SAM-Med2D, for example, has both" if adapters else ""
        return f"has a position grid of {sides} where {wanted} is expected{like}"
    if adapters and not grid:
        return f"holds adapters, such as {adapters[0]}, and not the encoder that they were trained on; {SAVE_MERGED}"
    if adapters:
        return f"is an encoder with adapters in it, such as {adapters[0]}; {SAVE_MERGED}"
    for pattern, other in OTHER_ENCODERS.items():
        if any(re.fullmatch(pattern, name) for name in found):
            return f"is {other}"
    return f"is another model: it {_differences(found, expected)}"


def _differences(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    missing, additional = expected.keys() - found.keys(), found.keys() - expected.keys()
    differences = [
        f"{verb} {len(names)} tensors, such as {min(names)}"
        for verb, names in (("lacks", missing), ("has in addition", additional))
        if names
    ]
    if not differences:
        name = min(name for name in expected if found[name] != expected[name])
        differences = [f"has {name} of {found[name]} where {expected[name]} is expected"]
    return " and ".join(differences)
