"""Write few-shot splits: fold 0 trains on all cases but the test cases, each other fold on a few random ones.

All folds validate on the same test cases, so that nnU-Net's own training and validation measure what the paper's
table 1 does: -n 3 6 --draws 5 makes folds 1 to 5 with 3 training cases and folds 6 to 10 with 6. A table of the folds
is written beside nnU-Net's splits_final.json, where nnUNetv2_tpmamba compare reads it. Earlier splits are kept as a
backup; if trainings on them exist, nothing is changed.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_tpmamba.data.few_shot import TEST_FRACTION, Fold, table
from nnunetv2_tpmamba.data.folders import find_preprocessed

from .options import TRAINER, add_option

HELP = "write splits with few training cases, drawn at random, and one fixed test set"
TRAINERS = ("nnUNetTrainer", TRAINER)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d")
    add_draw_options(parser)
    parser.add_argument(
        "--script",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the commands of all trainings to this file, for a shell or a Slurm array; without FILE print them",
    )
    scripted = parser.add_argument_group("options of the script")
    add_option(scripted, "-tr", nargs="+", default=TRAINERS, help=f"trainers ({' '.join(TRAINERS)})")
    add_option(scripted, "-c")
    add_option(scripted, "-p")
    add_option(scripted, "-device")
    add_option(scripted, "--overwrite", help="replace an existing script")


def add_draw_options(parser: argparse._ActionsContainer) -> None:
    """Add the options that say how folds are drawn."""
    parser.add_argument(
        "-n",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="training cases of a draw, e.g. 3 6 (none: fold 0 only)",
    )
    parser.add_argument("--draws", type=int, default=5, metavar="N", help="draws per number; each is a fold (5)")
    parser.add_argument(
        "--test",
        nargs="+",
        default=[str(TEST_FRACTION)],
        metavar="K",
        help="test cases: their number, their fraction of all cases, or their names (0.2)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random draws (0)")


def run(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.study.few_shot_splits import draw_folds, write_splits
    from nnunetv2_tpmamba.study.plan import Study
    from nnunetv2_tpmamba.study.script import compare_command, training_script

    folder = find_preprocessed(args.d)
    if args.script not in (None, "-"):
        check_script(Path(args.script), args.overwrite)
    folds = draw_folds(folder, args.test, args.n, args.draws, args.seed)
    write_splits(folder, folds, args.seed, log=print)
    print_folds(folds, args.tr)
    if args.script is not None:
        study = Study(folder.name, tuple(args.tr), tuple(folds), args.seed, 1, args.c, args.p)
        text = training_script(study, args.device, compare_command(study))
        if args.script == "-":
            print(f"\n{text}", end="")
        else:
            Path(args.script).write_text(text, encoding="utf-8")
            print(f"\n{how_to_train(args.script, len(study.trainings()))}")
    return 0


def print_folds(folds: Sequence[Fold], methods: Sequence[str]) -> None:
    """Print the table of folds, and what a user should know of them.

    Args:
        methods: that will be compared with the first of them.
    """
    from nnunetv2_tpmamba.comparison.statistics import fewest_cases

    print(table(folds))
    tests = max(1, len(methods) - 1) * len({len(fold.train) for fold in folds})
    if len(folds[0].val) < (fewest := fewest_cases(tests)):
        print(
            f"No difference between methods can be significant on {len(folds[0].val)} test cases; {tests} "
            f"comparison{'s' * (tests > 1)} with the first method take{'s' * (tests == 1)} {fewest}"
        )
    for fold in folds:
        if fold.missing:
            print(f"No training case of fold {fold.fold} has: {', '.join(fold.missing)}")


def how_to_train(script: Path | str, trainings: int) -> str:
    """Say how the script of all trainings is run."""
    quoted = shlex.quote(str(script))
    return f"Train with: bash {quoted}\nor on Slurm: sbatch --array=0-{trainings - 1} {quoted}"


def check_script(path: Path, overwrite: bool) -> None:
    """Refuse a script that cannot be written, before any split is written."""
    if path.is_dir():
        raise FileExistsError(f"--script {path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"--script {path} exists; name another file, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--script {path}: there is no folder {path.parent}; make it first, or name another")
