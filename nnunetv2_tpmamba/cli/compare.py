"""Compare trainings of one dataset, or plain folders of predictions: scores, paired statistics, cost and pictures.

This command trains and predicts nothing: it reads what nnU-Net's trainings wrote. Every trainer is compared with the
first one given. Folds written by nnUNetv2_tpmamba fewshot are grouped by their number of training cases. -p and -c take
one value for all trainers, or one for each.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_tpmamba.data.folders import PLANS, find_preprocessed, find_raw, find_results

from .options import CONFIGURATION, add_option

if TYPE_CHECKING:
    from nnunetv2_tpmamba.comparison.gather import Gathered

HELP = "compare trainers, or folders of predictions: Dice, surface Dice, distances, statistics, cost, pictures"
TOLERANCE = 1.0  # mm, the paper's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d", required=False, help="dataset id or name; its dataset.json names the classes")
    add_option(parser, "-tr", nargs="+", default=None, help="trainers; the others are compared with the first")
    add_option(parser, "-c", nargs="+", default=None)
    add_option(parser, "-p", nargs="+", default=None)
    add_option(parser, "-f", help="folds (all that every trainer has finished)")
    parser.add_argument(
        "--predictions", nargs="+", type=Path, metavar="DIR", help="folders of predictions to compare, instead of -tr"
    )
    parser.add_argument("--reference", type=Path, metavar="DIR", help="folder of the truth of --predictions")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, for the pictures")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="dataset.json of --predictions, if there is no -d")
    parser.add_argument(
        "-o", type=Path, default=Path("tpmamba_comparison"), metavar="DIR", help="folder to write (tpmamba_comparison)"
    )
    parser.add_argument(
        "--tolerance",
        nargs="+",
        default=[str(TOLERANCE)],
        metavar="MM",
        help="distance in mm within which surfaces agree; by class, e.g. 1 liver=2 (1)",
    )
    add_option(parser, "-np")
    add_option(parser, "--overwrite", help="replace the report in DIR")


def run(args: argparse.Namespace) -> int:
    check_usage(args)
    from nnunetv2.configuration import default_num_processes

    from nnunetv2_tpmamba.comparison.cache import cache_folder
    from nnunetv2_tpmamba.comparison.figures import diagrams
    from nnunetv2_tpmamba.comparison.gather import score_runs
    from nnunetv2_tpmamba.comparison.overlays import overlays
    from nnunetv2_tpmamba.comparison.report import write_report
    from nnunetv2_tpmamba.data.cases import find_images, images_in

    gathered = predictions(args) if args.predictions else trainings(args)
    images = find_images(find_raw(gathered.dataset_name), gathered.description)
    if args.images is not None:
        images = images_in(args.images, gathered.description["file_ending"])
    check_output(args.o, gathered, {path.parent for path in images.values()} | {args.images or gathered.reference})
    tolerance = tolerances(args.tolerance, list(gathered.labels.classes))
    processes = default_num_processes if args.np is None else args.np
    results = score_runs(gathered, tolerance, processes, cache_folder())
    drawn_cases, notes = overlays(results, gathered, images)
    results = replace(results, notes=(*results.notes, *notes))
    for note in results.notes:
        print(f"Note: {note}", flush=True)
    command = shlex.join(["nnUNetv2_tpmamba", *sys.argv[1:]])
    write_report(results, {**diagrams(results), **drawn_cases}, command, args.o)
    print(f"The report is {args.o / 'report.html'}")
    return 0


def check_usage(args: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together, before anything is read."""
    if bool(args.tr) == bool(args.predictions):
        raise ValueError("give either -d and -tr (trainers), or --predictions and --reference (folders)")
    if args.tr and args.d is None:
        raise ValueError("-tr needs -d, the dataset that was trained on")
    if args.predictions and args.reference is None:
        raise ValueError("--predictions needs --reference, the folder with the truth")
    if args.predictions and (args.d is None) == (args.labels is None):
        raise ValueError("--predictions needs either -d or --labels, whose dataset.json names the classes")
    for name in ("f", "c", "p"):
        if args.predictions and getattr(args, name):
            raise ValueError(
                f"-{name} is for trainers (-tr); with --predictions, all cases in the folders are compared"
            )
    for name in ("reference", "labels"):
        if args.tr and getattr(args, name):
            raise ValueError(f"--{name} is for --predictions; with -tr, it is found in the dataset (-d)")
    for folder in (*(args.predictions or ()), args.reference, args.images):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give a folder whose files have nnU-Net's names")
    for name in ("p", "c"):
        if args.tr and len(getattr(args, name) or [""]) not in (1, len(args.tr)):
            raise ValueError(f"-{name}: give one for all {len(args.tr)} trainers, or one for each")
    if args.o.exists() and not args.o.is_dir():
        raise FileExistsError(f"-o {args.o} is a file; name a folder")
    if args.o.is_dir() and any(args.o.iterdir()) and not args.overwrite:
        raise FileExistsError(f"-o {args.o} is not empty; name another folder, or replace its report with --overwrite")


def check_output(out: Path, gathered: "Gathered", images: Collection[Path]) -> None:
    """Raise ValueError if the report would lie inside a folder that is read, or such a folder inside the report's."""
    read = {path.parent for run in gathered.runs for path in run.predictions.values()} | {gathered.reference, *images}
    for folder in sorted(read):
        ours, theirs = out.resolve(), folder.resolve()
        if ours.is_relative_to(theirs):
            raise ValueError(f"-o {out} lies inside {folder}, which is read; name another folder with -o")
        if theirs.is_relative_to(ours):
            raise ValueError(f"{folder}, which is read, lies inside -o {out}; name another folder with -o")


def trainings(args: argparse.Namespace) -> "Gathered":
    """Find the trainings that the arguments name.

    Raises:
        ValueError: a trainer is given twice with the same plans and configuration.
    """
    from nnunetv2_tpmamba.comparison.gather import gather_trainings

    folder = find_preprocessed(args.d)
    results = find_results()
    plans, configurations = args.p or [PLANS], args.c or [CONFIGURATION]
    models = [(trainer, of_each(plans, index), of_each(configurations, index)) for index, trainer in enumerate(args.tr)]
    if len(set(models)) < len(models):
        raise ValueError(f"-tr {' '.join(args.tr)}: give every trainer once (or with another -p or -c)")
    return gather_trainings(named(models), folder, results / folder.name, args.f)


def of_each(values: Sequence[str], index: int) -> str:
    """The value for one trainer, where one value stands for all trainers or there is one for each."""
    return values[index] if len(values) > 1 else values[0]


def named(models: Sequence[tuple[str, str, str]]) -> dict[str, tuple[str, str, str]]:
    """Name each model by its trainer, and also by its plans and its configuration where the models differ in them."""
    differing = [part for part in range(3) if part == 0 or len({model[part] for model in models}) > 1]
    return {" ".join(model[part] for part in differing): model for model in models}


def predictions(args: argparse.Namespace) -> "Gathered":
    """Find the folders of predictions that the arguments name."""
    from nnunetv2_tpmamba.comparison.gather import gather_folders
    from nnunetv2_tpmamba.data.dataset_json import read_description

    description = read_description(args.labels or find_preprocessed(args.d) / "dataset.json")
    return gather_folders(by_name(args.predictions), args.reference, description)


def by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Name each folder as it is called, or by its path below their common folder where two are called the same.

    Raises:
        ValueError: a folder is given twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"--predictions {' '.join(map(str, folders))}: give every folder once")
    paths = [Path(os.path.abspath(folder)) for folder in folders]  # a link keeps its own name
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        above = os.path.commonpath([path.parent for path in paths])
        names = [str(path.relative_to(above)) for path in paths]
    return dict(zip(names, folders, strict=True))


def tolerances(given: Sequence[str], classes: Sequence[str]) -> dict[str, float]:
    """The tolerance of each class in mm: the one given for it by name, or else the one given without a name.

    Raises:
        ValueError: a class that does not exist, or a tolerance that is no number above 0.
    """
    values: dict[str, float] = dict.fromkeys(classes, TOLERANCE)
    for text in sorted(given, key=lambda text: "=" in text):  # a class's own tolerance replaces the one for all
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise ValueError(f"--tolerance {text}: give mm above 0, for one class as NAME=MM")
        if name and name not in values:
            raise ValueError(f"--tolerance {text}: there is no class {name}; the classes are {', '.join(classes)}")
        values.update({name: value} if name else dict.fromkeys(classes, value))
    return values
