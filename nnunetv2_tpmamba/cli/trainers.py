"""List every trainer that this package gives to nnU-Net, to be named after -tr.

Parameters are counted for one image channel and 14 classes, the paper's. Nothing is trained, read or downloaded.
--markdown prints the page docs/rows.md, the rows of the paper's tables; operations and memory are counted for it, which
takes minutes.
"""

import argparse
import textwrap
from pathlib import Path

from .console import show_progress

HELP = "list the trainers: what each is, its parameters, what it needs"
INPUT_CHANNELS, NUM_CLASSES = 1, 14
WIDTH = 100  # characters of a line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print the page docs/rows.md instead of the list")
    parser.add_argument(
        "--measured",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="with --markdown: files of nnUNetv2_tpmamba benchmark --only rows --json, for the seconds per iteration",
    )


def run(args: argparse.Namespace) -> int:
    if args.measured and not args.markdown:
        raise ValueError("--measured is for the page; add --markdown")
    return print_page(args.measured) if args.markdown else print_list()


def print_list() -> int:
    from nnunetv2_tpmamba.trainers.catalogue import describe, trainers

    for name, trainer in trainers().items():
        facts = describe(trainer, INPUT_CHANNELS, NUM_CLASSES)
        print(name)
        print(textwrap.fill(facts.what, WIDTH, initial_indent="    ", subsequent_indent="    "))
        counted = f"not known, because {facts.missing}"
        if not facts.missing:
            counted = f"{facts.parameters:,}, trained: {facts.trained:,}"
        print(f"    parameters: {counted}; needs {facts.needs}\n", flush=True)
    print("Each is found by nnU-Net once nnUNet_extTrainer is set: export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)")
    return 0


def print_page(measured: list[Path]) -> int:
    from nnunetv2_tpmamba.benchmark.rows_page import write_page

    page = write_page(measured, on_row=lambda name: show_progress(f"counting {name}"))
    show_progress("")
    print(page, end="")
    return 0
