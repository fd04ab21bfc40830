"""The options that several verbs share: nnU-Net's letters, with one wording and one default for all verbs."""

import argparse
from typing import Any

from nnunetv2_tpmamba.data.folders import PLANS

TRAINER = "nnUNetTrainerTPMamba"
CONFIGURATION = "3d_fullres"

SHARED: dict[str, dict[str, Any]] = {
    "-d": {"required": True, "metavar": "D", "help": "dataset id or name, e.g. 702"},
    "-tr": {"default": TRAINER, "metavar": "T", "help": f"trainer ({TRAINER})"},
    "-p": {"default": PLANS, "metavar": "PLANS", "help": f"plans ({PLANS})"},
    "-c": {"default": CONFIGURATION, "metavar": "C", "help": f"configuration ({CONFIGURATION})"},
    "-f": {"nargs": "+", "metavar": "F", "help": "folds (all that were trained)"},
    "-np": {"type": int, "metavar": "N", "help": "processes; fewer need less memory (nnUNet_def_n_proc, else 8)"},
    "-device": {"metavar": "D", "help": "cuda, cpu or mps (nnU-Net's own choice: cuda)"},
    "--overwrite": {"action": "store_true", "help": "replace an existing file"},
}


def add_option(parser: argparse._ActionsContainer, name: str, **changes: Any) -> None:
    """Add a shared option to a verb's parser, or to a group of its options.

    Args:
        parser: where to add it.
        name: a key of ``SHARED``.
        changes: arguments of ``add_argument`` in which this verb differs from the others.
    """
    parser.add_argument(name, **SHARED[name] | changes)


def positive(text: str) -> int:
    """Read a whole number of at least 1, as a ``type`` of argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
