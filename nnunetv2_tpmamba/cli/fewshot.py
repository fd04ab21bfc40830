"""Write few-shot splits: fold 0 trains on all cases but the test cases, each other fold on a few random ones.

All folds validate on the same test cases, so that nnU-Net's own training and validation measure what the paper's
table 1 does: -n 3 6 --draws 5 makes folds 1 to 5 with 3 training cases and folds 6 to 10 with 6. A table of the folds
is written beside nnU-Net's splits_final.json, where nnUNetv2_tpmamba compare reads it. Earlier splits are kept as a
backup; if trainings on them exist, nothing is changed.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.data.few_shot import (
    PROTOCOL,
    TEST_FRACTION,
    Fold,
    choose_test,
    few_shot_folds,
    number_of_test_cases,
    script,
    table,
)
from nnunetv2_tpmamba.data.folders import find_preprocessed, find_results
from nnunetv2_tpmamba.files import whole_or_absent

from .options import TRAINER, add_option

HELP = "write splits with few training cases, drawn at random, and one fixed test set"
TRAINERS = ("nnUNetTrainer", TRAINER)
TABLE = "fewshot.md"


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

    folder = find_preprocessed(args.d)
    if args.script not in (None, "-"):
        check_script(Path(args.script), args.overwrite)
    if args.draws < 1:
        raise ValueError(f"--draws {args.draws}: give at least 1")
    if len(set(args.n)) < len(args.n):
        raise ValueError(f"-n {' '.join(map(str, args.n))}: give every number once")
    classes = classes_of_cases(folder)
    folds = few_shot_folds(classes, test_cases(args.test, classes, args.seed), args.n, args.draws, args.seed)
    write_splits(folder, folds, args.seed)
    print(table(folds))
    if len(folds[0].val) < FEWEST:
        print(f"No difference between methods can be significant on {len(folds[0].val)} test cases; it takes {FEWEST}")
    for fold in folds:
        if fold.missing:
            print(f"No training case of fold {fold.fold} has: {', '.join(fold.missing)}")
    if args.script is not None:
        text = script(folder.name, folds, args.tr, args.c, args.p, args.device)
        if args.script == "-":
            print(f"\n{text}", end="")
        else:
            Path(args.script).write_text(text)
            jobs = len(folds) * len(args.tr)
            print(f"\nTrain with: bash {args.script}\nor on Slurm: sbatch --array=0-{jobs - 1} {args.script}")
    return 0


def check_script(path: Path, overwrite: bool) -> None:
    """Refuse what cannot be written before the splits are."""
    if path.is_dir():
        raise FileExistsError(f"--script {path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"--script {path} exists; name another file, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--script {path}: there is no folder {path.parent}; make it first, or name another")


def classes_of_cases(folder: Path) -> dict[str, set[str]]:
    """Which classes (or regions) of ``dataset.json`` the truth of each preprocessed case holds.

    Raises:
        FileNotFoundError: the dataset was not preprocessed.
        ValueError: ``dataset.json`` or a label map is damaged.
    """
    import numpy as np
    from tqdm import tqdm

    from nnunetv2_tpmamba.comparison.labels import read_description
    from nnunetv2_tpmamba.comparison.metrics import read, reader_of

    truth = folder / "gt_segmentations"
    if not (folder / "dataset.json").is_file() or not truth.is_dir():
        raise FileNotFoundError(
            f"{truth} does not exist; preprocess the dataset first: nnUNetv2_plan_and_preprocess -d "
            f"{int(folder.name[7:10])} (or, if it is planned, nnUNetv2_tpmamba preprocess)"
        )
    description = read_description(folder / "dataset.json")
    ending = description["file_ending"]
    files = sorted(path for path in truth.iterdir() if path.name.endswith(ending))
    if not files:
        raise FileNotFoundError(f"{truth} holds no file that ends with {ending}; preprocess the dataset again")
    reader = reader_of(description, files)
    labels = {name: value for name, value in description["labels"].items() if name not in ("background", "ignore")}
    classes = {}
    for file in tqdm(files, desc="Reading labels", unit="case", disable=None):
        values = set(np.unique(read(file, reader)[0]).tolist())
        classes[file.name.removesuffix(ending)] = {
            name for name, value in labels.items() if values & set(value if isinstance(value, list) else [value])
        }
    return classes


def test_cases(test: Sequence[str], classes: dict[str, set[str]], seed: int) -> tuple[str, ...]:
    """The cases named, or as many as the one number says.

    Raises:
        ValueError: unknown cases, no training case left, or a name that is a number too.
    """
    if len(test) == 1 and test[0] in classes and is_number(test[0]):
        raise ValueError(
            f"--test {test[0]} is a number and the name of a case; for the number write {float(test[0]):.3f}, for the "
            f"case give its name twice: --test {test[0]} {test[0]}"
        )
    unknown = [name for name in test if name not in classes]
    if not unknown:
        if len(set(test)) == len(classes):
            raise ValueError(f"--test names all {len(classes)} cases, which leaves no training case")
        return tuple(dict.fromkeys(test))
    try:
        (number,) = map(float, test)
    except ValueError:
        raise ValueError(
            f"--test: there is no case {', '.join(unknown)}; give a number of cases, a fraction below 1, or names such "
            f"as {next(iter(classes))}"
        ) from None
    return choose_test(classes, number_of_test_cases(number, len(classes)), seed)


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def write_splits(folder: Path, folds: Sequence[Fold], seed: int) -> None:
    """Write ``splits_final.json`` and the table; keep what was there as a backup.

    Raises:
        FileExistsError: there are trainings on other splits.
    """
    from nnunetv2_tpmamba.data.splits import SPLITS, locked_split

    path, protocol = folder / SPLITS, folder / PROTOCOL
    splits = [fold.split() for fold in folds]
    with locked_split(folder, print):
        if not holds(path, splits):
            trained = trained_folds(folder.name)
            if trained:
                raise FileExistsError(
                    f"there are results for the present splits: {', '.join(map(str, trained))}; move these elsewhere, "
                    "or copy the dataset to another id. Nothing was changed"
                )
            if path.is_file():
                backup = back_up(path)
                print(f"{path} was there; it is kept as {backup.name}")
            write_whole(path, json.dumps(splits, indent=4))
        write_whole(protocol, json.dumps({"seed": seed, "folds": [fold.as_json() for fold in folds]}, indent=1))
        write_whole(folder / TABLE, table(folds) + "\n")
    print(f"{len(folds)} folds are in {path}, what they are in {protocol.name} and {TABLE} beside it\n")


def holds(path: Path, splits: Sequence[Any]) -> bool:
    try:
        return json.loads(path.read_text()) == splits
    except (OSError, ValueError):  # absent, or damaged: then it is backed up and replaced
        return False


def trained_folds(dataset_name: str) -> list[Path]:
    """Folders of trainings on a fold of the splits; ``fold_all`` is none, nor is what never ended an epoch.

    Raises:
        OSError: ``nnUNet_results`` is not set, so it cannot be seen whether there are any.
    """
    folds = (find_results() / dataset_name).glob("*__*__*/fold_[0-9]*")
    return sorted(fold for fold in folds if any(fold.glob("checkpoint_*.pth")) or (fold / "validation").is_dir())


def back_up(path: Path) -> Path:
    """Rename to the first free ``splits_final.backup-1.json``, ``-2``, ..."""
    number = 1
    while (backup := path.with_name(f"{path.stem}.backup-{number}{path.suffix}")).exists():
        number += 1
    return path.rename(backup)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    with whole_or_absent(path) as unfinished:
        unfinished.write_text(text)
