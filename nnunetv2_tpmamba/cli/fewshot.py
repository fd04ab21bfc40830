"""Write few-shot splits: fold 0 trains on all cases but the test cases, each other fold on a few random ones.

All folds validate on the same test cases, so that nnU-Net's own training and validation measure what the paper's
table 1 does: -n 3 6 --draws 5 makes folds 1 to 5 with 3 training cases and folds 6 to 10 with 6. A table of the folds
is written beside nnU-Net's splits_final.json, where nnUNetv2_tpmamba compare reads it. Earlier splits are kept as a
backup; if trainings on them exist, nothing is changed.
"""

import argparse
from pathlib import Path

from nnunetv2_tpmamba.data.few_shot import TEST_FRACTION, few_shot_folds, table
from nnunetv2_tpmamba.data.folders import find_preprocessed

from .options import TRAINER, add_option

HELP = "write splits with few training cases, drawn at random, and one fixed test set"
TRAINERS = ("nnUNetTrainer", TRAINER)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d")
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
    scripted.add_argument("-device", metavar="D", help="cuda, cpu or mps (nnU-Net's own choice: cuda)")
    add_option(scripted, "--overwrite", help="replace an existing script")


def run(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.comparison.statistics import FEWEST
    from nnunetv2_tpmamba.study.few_shot_splits import classes_of_cases, resolve_test_cases, write_splits
    from nnunetv2_tpmamba.study.script import training_script

    folder = find_preprocessed(args.d)
    if args.script not in (None, "-"):
        check_script(Path(args.script), args.overwrite)
    if args.draws < 1:
        raise ValueError(f"--draws {args.draws}: give at least 1")
    if len(set(args.n)) < len(args.n):
        raise ValueError(f"-n {' '.join(map(str, args.n))}: give every number once")
    classes = classes_of_cases(folder)
    test = resolve_test_cases(args.test, classes, args.seed)
    folds = few_shot_folds(classes, test, args.n, args.draws, args.seed)
    write_splits(folder, folds, args.seed, log=print)
    print(table(folds))
    if len(folds[0].val) < FEWEST:
        print(f"No difference between methods can be significant on {len(folds[0].val)} test cases; it takes {FEWEST}")
    for fold in folds:
        if fold.missing:
            print(f"No training case of fold {fold.fold} has: {', '.join(fold.missing)}")
    if args.script is not None:
        text = training_script(folder.name, folds, args.tr, args.c, args.p, args.device)
        if args.script == "-":
            print(f"\n{text}", end="")
        else:
            Path(args.script).write_text(text)
            jobs = len(folds) * len(args.tr)
            print(f"\nTrain with: bash {args.script}\nor on Slurm: sbatch --array=0-{jobs - 1} {args.script}")
    return 0


def check_script(path: Path, overwrite: bool) -> None:
    """Refuse a script that cannot be written, before any split is written."""
    if path.is_dir():
        raise FileExistsError(f"--script {path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"--script {path} exists; name another file, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--script {path}: there is no folder {path.parent}; make it first, or name another")
