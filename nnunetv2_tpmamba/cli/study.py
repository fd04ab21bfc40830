"""Plan the paper's whole experiment, see how far it is, and compare what is finished.

plan draws the folds as fewshot does, writes what is trained on them (study.json, beside nnU-Net's splits), and one
script of all trainings, for a shell or for a Slurm array. status shows which trainings are finished, run, have stopped
or have not started, by what nnU-Net writes. report compares the finished ones, with the numbers that the paper prints
beside them where the classes are BTCV's.
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nnunetv2_tpmamba.data.folders import find_preprocessed, find_raw

from .compare import add_report_options, processes, tolerances
from .console import termination_as_interrupt
from .fewshot import add_draw_options, check_script, how_to_train, print_folds
from .options import add_option, positive

HELP = "plan the trainings of the paper's tables on few-shot splits, see how far they are, compare them"
SCRIPT = "study.sh"
REPORT = Path("tpmamba_study")
COLOURS = {"finished": 32, "running": 36, "stopped": 31, "other cases": 35, "not started": 2}  # of ECMA-48
NARROWEST, WIDTH = 60, 100  # characters of a line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    _add_plan(_part(parts, "plan", plan, "write splits, study.json and the script of all trainings"))
    _add_status(_part(parts, "status", show_status, "show how far every training is"))
    _add_report(_part(parts, "report", report, "compare what is finished, beside the paper's printed numbers"))


def run(args: argparse.Namespace) -> int:
    return args.run_part(args)


def _part(parts: argparse._SubParsersAction, name: str, run_part: Callable, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parts.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run_part=run_part)
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d")
    parser.add_argument(
        "--rows",
        nargs="+",
        required=True,
        metavar="ROW",
        help="table1, table2, table3, table4, adapters (figure 1(c)), or names of trainers",
    )
    add_draw_options(parser)
    parser.add_argument("--repeats", type=positive, default=1, metavar="R", help="how often every training is made (1)")
    add_option(parser, "-c")
    add_option(parser, "-p")
    add_option(parser, "-device")
    parser.add_argument("--script", type=Path, default=Path(SCRIPT), metavar="FILE", help=f"the script ({SCRIPT})")
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="take a few iterations of every row on the device, and print what the study costs",
    )
    add_option(parser, "--overwrite", help="replace another script, and the plan of another study")


def _add_status(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def _add_report(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d")
    add_report_options(parser, REPORT)


def plan(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.study import estimate
    from nnunetv2_tpmamba.study.few_shot_splits import draw_folds, write_splits
    from nnunetv2_tpmamba.study.plan import STUDY, Study, check_plan, plans_folds, write_study
    from nnunetv2_tpmamba.study.rows import check_needs, check_plans, trainers_of
    from nnunetv2_tpmamba.study.script import training_script
    from nnunetv2_tpmamba.study.status import check_results

    folder = find_preprocessed(args.d)
    device = estimate.device_named(args.device) if args.estimate else None
    trainers = trainers_of(args.rows)
    check_needs(trainers)
    check_plans(folder, trainers, args.c, args.p)
    folds = draw_folds(folder, args.test, args.n, args.draws, args.seed)
    study = Study(folder.name, tuple(trainers), tuple(folds), args.seed, args.repeats, args.c, args.p)
    then = ["nnUNetv2_tpmamba", "study", "report", "-d", study.dataset]
    script = training_script(study, args.device, then)
    check_script(args.script, args.overwrite or holds(args.script, script))
    if not args.overwrite:
        check_plan(folder, study)
    check_results(folder, study)

    write_splits(folder, folds, args.seed, log=print, restore=plans_folds(folder, folds))
    write_study(folder, study)
    args.script.write_text(script, encoding="utf-8")
    print_folds(folds, study.rows)
    number = len(study.trainings())
    repeats = f" x {args.repeats} repeats" if args.repeats > 1 else ""
    print(f"\n{number} trainings: {len(trainers)} rows x {len(folds)} folds{repeats}; the plan is in {folder / STUDY}")
    print(how_to_train(args.script, number))
    print(f"See how far they are: nnUNetv2_tpmamba study status -d {shlex.quote(args.d)}")
    if device is not None:
        print(f"\nA few iterations of each row on {estimate.describe(device)}:", flush=True)
        with termination_as_interrupt():
            results = estimate.estimate(study, device, log=partial(print, flush=True))
        print(f"\n{estimate.as_text(study, results, device)}")
    return 0


def holds(path: Path, text: str) -> bool:
    """Whether a file holds this text already."""
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text


def show_status(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.study.status import as_json, as_text, read_status

    status = read_status(find_preprocessed(args.d), time.time())
    if args.json:
        print(json.dumps(as_json(status), indent=1))
    else:
        width = max(NARROWEST, shutil.get_terminal_size((WIDTH, 0)).columns)
        print(as_text(status, paint if has_colours() else lambda text, state: text, width))
    return 1 if status.missing else 0


def report(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.comparison.comparison import check_empty, write_comparison
    from nnunetv2_tpmamba.data.cases import find_images
    from nnunetv2_tpmamba.study.beside_the_paper import beside_the_paper
    from nnunetv2_tpmamba.study.finished import gather_finished

    check_empty(args.o, args.overwrite)
    folder = find_preprocessed(args.d)
    gathered = gather_finished(folder, time.time())
    tolerance = tolerances(args.tolerance, list(gathered.labels.classes))
    images = find_images(find_raw(folder.name), gathered.description)
    write_comparison(gathered, tolerance, processes(args.np), images, args.o, log=print, further=beside_the_paper)
    return 0


def has_colours() -> bool:
    """Whether the output is a terminal whose user wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, state: str) -> str:
    """Give a text the colour of a state."""
    return f"\033[{COLOURS[state]}m{text}\033[0m"
