"""Imports point one way: the table of who may import whom is the architecture, and these tests keep it true."""

import ast
import sys
from itertools import chain
from pathlib import Path

import pytest

import nnunetv2_tpmamba

PACKAGE = Path(nnunetv2_tpmamba.__path__[0])
NAME = PACKAGE.name

# From what users and nnU-Net start down to the leaves; a line imports only from lines below it.
ALLOWED = {
    "cli": {"diagnosis", "plugin", "plans", "preprocessing", "sam_download", "sam_weights", "console", "phantom"}
    | {"pictures", "raw_dataset", "scores", "volumes", "benchmark", "fewshot", "comparison", "adapter_file", "files"}
    | {"splits", "config"},
    "comparison": {"fewshot", "splits", "checkpoints", "files"},
    "adapter_file": {"adapter_model", "checkpoints", "files"},
    "adapter_model": {"trainer"},
    "benchmark": {"network", "sam_encoder", "lora", "triplane", "ops", "config"},
    "diagnosis": {"plugin", "sam_download", "sam_weights", NAME, "network", "ops", "config"},
    "plugin": {"variants"},
    "variants": {"trainer", "config"},
    "trainer": {"preprocessing", "plans", "sam_download", "sam_weights", "network", "ops", "memory", "config"}
    | {"augmentation", "files", "optimization", "splits"},
    "augmentation": set(),
    "optimization": set(),
    "checkpoints": set(),
    # the data
    "preprocessing": {"splits", "locks", "survey", "manifest", "plans", "integrity"},
    "survey": {"manifest", "files"},
    "splits": {"locks", "manifest"},
    "locks": set(),
    "integrity": set(),
    "manifest": {"plans", "files"},
    "plans": {"plans_entries", "config"},
    "plans_entries": set(),
    "memory": {"network"},
    "volumes": {"pictures", "config"},
    # the network
    "sam_download": {"sam_weights", "files"},
    "sam_weights": set(),
    NAME: {"network", "config"},  # __init__.py
    "network": {"sam_encoder", "lora", "triplane", "decoder", "config"},
    "sam_encoder": {"window_attention"},
    "window_attention": set(),
    "lora": set(),
    "decoder": {"autocast"},
    "triplane": {"mamba", "autocast"},
    "autocast": set(),
    "mamba": {"ops"},
    "ops": set(),
    "config": set(),
    # the demo
    "console": set(),
    "phantom": {"anatomy", "canvas"},
    "anatomy": {"canvas"},
    "canvas": set(),
    "pictures": set(),
    "raw_dataset": set(),
    "fewshot": set(),
    "scores": set(),
    "files": set(),
}
KNOW_NNUNET = {"cli", "comparison", "benchmark", "diagnosis", "plugin", "variants", "trainer"} | {
    *(
        "preprocessing",
        "manifest",
        "plans",
        "plans_entries",
        "adapter_model",
        "augmentation",
        "optimization",
        "integrity",
    )
}
NNUNET = {"nnunetv2", "batchgenerators", "batchgeneratorsv2"}


def part_of(file):
    """The line of the table that a file belongs to: its folder, or its own name."""
    first = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return NAME if first == "__init__" else first


def imported_names(file):
    """Dotted names of all imports in a file, also those inside functions; ours in full."""
    here = (NAME, *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def imports_of(part):
    files = PACKAGE.rglob("*.py")
    return set(chain.from_iterable(imported_names(file) for file in files if part_of(file) == part))


def our_part(name):
    """The line of the table that ``nnunetv2_tpmamba.something.other`` belongs to."""
    second = name.split(".")[1]
    return second if second in ALLOWED or any(PACKAGE.glob(f"{second}.py")) else NAME


PARTS = sorted({part_of(file) for file in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("part", PARTS)
def test_imports_only_what_the_table_allows(part):
    assert part in ALLOWED, f"add {part} and what it may import to the table"
    assert {our_part(name) for name in imports_of(part) if name.startswith(f"{NAME}.")} - {part} <= ALLOWED[part]


@pytest.mark.parametrize("part", sorted(set(PARTS) - KNOW_NNUNET))
def test_does_not_know_nnunet(part):
    assert not {name for name in imports_of(part) if name.split(".")[0] in NNUNET}


def test_the_table_points_down():
    order = list(ALLOWED)
    upward = {(a, b) for a, allowed in ALLOWED.items() for b in allowed if order.index(b) <= order.index(a)}
    assert not upward


def test_config_is_the_standard_library_s_only():
    assert {name.split(".")[0] for name in imports_of("config")} <= sys.stdlib_module_names
