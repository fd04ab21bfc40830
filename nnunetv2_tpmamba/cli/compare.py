"""Compare trainings of one dataset, or plain folders of predictions: scores, paired statistics, cost and pictures.

This command trains and predicts nothing: it reads what nnU-Net's trainings wrote. Every trainer is compared with the
first one given. Folds written by nnUNetv2_tpmamba fewshot are grouped by their number of training cases. -p and -c take
one value for all trainers, or one for each.
"""

import argparse
import os
from collections.abc import Sequence
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
        "--results",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders like nnUNet_results, each with a repeat of the same trainings (nnUNet_results)",
    )
    parser.add_argument(
        "--predictions", nargs="+", type=Path, metavar="DIR", help="folders of predictions to compare, instead of -tr"
    )
    parser.add_argument("--reference", type=Path, metavar="DIR", help="folder of the truth of --predictions")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, for the pictures")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="dataset.json of --predictions, if there is no -d")
    add_report_options(parser, Path("tpmamba_comparison"))


def add_report_options(parser: argparse.ArgumentParser, out: Path) -> None:
    """Add the options of whatever writes a report.

    Args:
        out: where the report is written unless the user says otherwise.
    """
    parser.add_argument("-o", type=Path, default=out, metavar="DIR", help=f"folder to write ({out})")
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
    from nnunetv2_tpmamba.comparison.comparison import check_empty, check_output, write_comparison
    from nnunetv2_tpmamba.data.cases import find_images, images_in

    check_empty(args.o, args.overwrite)
    gathered = predictions(args) if args.predictions else trainings(args)
    if args.images is None:
        images = find_images(find_raw(gathered.dataset_name), gathered.description)
    else:
        check_output(args.o, [args.images])  # it may hold no image
        images = images_in(args.images, gathered.description["file_ending"])
    tolerance = tolerances(args.tolerance, list(gathered.labels.classes))
    write_comparison(gathered, tolerance, processes(args.np), images, args.o, log=print)
    return 0


def processes(given: int | None) -> int:
    """How many processes to use: as many as given, or nnU-Net's own choice."""
    from nnunetv2.configuration import default_num_processes

    return int(default_num_processes) if given is None else given


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
    for name in ("f", "c", "p", "results"):
        if args.predictions and getattr(args, name):
            raise ValueError(
                f"{'-' if len(name) == 1 else '--'}{name} is for trainers (-tr); with --predictions, all cases in the "
                "folders are compared"
            )
    for name in ("reference", "labels"):
        if args.tr and getattr(args, name):
            raise ValueError(f"--{name} is for --predictions; with -tr, it is found in the dataset (-d)")
    if args.results and len({folder.resolve() for folder in args.results}) < len(args.results):
        raise ValueError(f"--results {' '.join(map(str, args.results))}: give every folder once")
    for folder in args.results or ():
        if not folder.is_dir():
            raise ValueError(f"--results {folder} is no folder; give folders that trainings had as nnUNet_results")
    for folder in (*(args.predictions or ()), args.reference, args.images):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give a folder whose files have nnU-Net's names")
    for name in ("p", "c"):
        if args.tr and len(getattr(args, name) or [""]) not in (1, len(args.tr)):
            raise ValueError(f"-{name}: give one for all {len(args.tr)} trainers, or one for each")


def trainings(args: argparse.Namespace) -> "Gathered":
    """Find the trainings that the arguments name.

    Raises:
        ValueError: a trainer is given twice with the same plans and configuration.
    """
    from nnunetv2_tpmamba.comparison.gather import gather_trainings

    folder = find_preprocessed(args.d)
    results = args.results or [find_results()]
    plans, configurations = args.p or [PLANS], args.c or [CONFIGURATION]
    models = [(trainer, of_each(plans, index), of_each(configurations, index)) for index, trainer in enumerate(args.tr)]
    if len(set(models)) < len(models):
        raise ValueError(f"-tr {' '.join(args.tr)}: give every trainer once (or with another -p or -c)")
    return gather_trainings(named(models), folder, [place / folder.name for place in results], args.f)


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
