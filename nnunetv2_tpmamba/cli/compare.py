"""Compare trainings of one dataset, or plain folders of predictions: scores, paired statistics, cost and pictures.

What nnU-Net's training left behind is read, nothing is trained or predicted; the first of the trainers is what the
others are compared with. Folds written by nnUNetv2_tpmamba fewshot are grouped by their number of training cases.
-p and -c take one value for all trainers, or one for each.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_tpmamba.cli.dataset import find_preprocessed, find_results

if TYPE_CHECKING:
    from nnunetv2_tpmamba.comparison.gather import Gathered
    from nnunetv2_tpmamba.comparison.results import Results

HELP = "compare trainers, or folders of predictions: Dice, surface Dice, statistics, cost, pictures"
TOLERANCE = 1.0  # mm, the paper's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", metavar="D", help="dataset id or name; its dataset.json names the classes")
    parser.add_argument("-tr", nargs="+", metavar="T", help="trainers; the others are compared with the first")
    parser.add_argument("-c", nargs="+", default=["3d_fullres"], metavar="C", help="configuration (3d_fullres)")
    parser.add_argument("-p", nargs="+", default=["nnUNetPlans"], metavar="PLANS", help="plans (nnUNetPlans)")
    parser.add_argument("-f", nargs="+", metavar="F", help="folds (those that all trainers have finished)")
    parser.add_argument(
        "--predictions", nargs="+", type=Path, metavar="DIR", help="folders of predictions, instead of trainers"
    )
    parser.add_argument("--reference", type=Path, metavar="DIR", help="folder of their truth")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of their images, for the pictures")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="dataset.json of --predictions, if there is no -d")
    parser.add_argument("-o", type=Path, default=Path("tpmamba_comparison"), metavar="DIR", help="folder to write")
    parser.add_argument(
        "--tolerance",
        nargs="+",
        default=[str(TOLERANCE)],
        metavar="MM",
        help="mm within which surfaces agree; for a class by name: 1 liver=2 (1)",
    )
    parser.add_argument("-np", type=int, metavar="N", help="processes (nnUNet_def_n_proc, else 8)")
    parser.add_argument("--overwrite", action="store_true", help="replace the report in DIR")


def run(args: argparse.Namespace) -> int:
    check_usage(args)
    from nnunetv2.configuration import default_num_processes

    from nnunetv2_tpmamba.comparison.cache import cache_folder
    from nnunetv2_tpmamba.comparison.figures import diagrams
    from nnunetv2_tpmamba.comparison.gather import measure
    from nnunetv2_tpmamba.comparison.report import write_report

    gathered = predictions(args) if args.predictions else trainings(args)
    tolerance = tolerances(args.tolerance, list(gathered.labels.classes))
    processes = default_num_processes if args.np is None else args.np
    results = measure(gathered, tolerance, processes, cache_folder())
    for note in results.notes:
        print(f"Note: {note}", flush=True)
    pictures = {**diagrams(results), **overlays(results, gathered, args)}
    command = shlex.join(["nnUNetv2_tpmamba", *sys.argv[1:]])
    write_report(results, pictures, command, args.o)
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
    for name in ("p", "c"):
        if args.tr and len(getattr(args, name)) not in (1, len(args.tr)):
            raise ValueError(f"-{name}: give one for all {len(args.tr)} trainers, or one for each")
    if args.o.exists() and not args.o.is_dir():
        raise FileExistsError(f"-o {args.o} is a file; name a folder")
    if args.o.is_dir() and any(args.o.iterdir()) and not args.overwrite:
        raise FileExistsError(f"-o {args.o} is not empty; name another folder, or replace its report with --overwrite")


def trainings(args: argparse.Namespace) -> "Gathered":
    from nnunetv2_tpmamba.comparison.gather import gather_trainings

    folder = find_preprocessed(args.d)
    results = find_results()
    models = [(trainer, of_each(args.p, index), of_each(args.c, index)) for index, trainer in enumerate(args.tr)]
    if len(set(models)) < len(models):
        raise ValueError(f"-tr {' '.join(args.tr)}: give every trainer once (or with another -p or -c)")
    return gather_trainings(named(models), folder, results / folder.name, args.f)


def of_each(values: Sequence[str], index: int) -> str:
    return values[index] if len(values) > 1 else values[0]


def named(models: Sequence[tuple[str, str, str]]) -> dict[str, tuple[str, str, str]]:
    """By trainer, and by plans and configuration where these differ."""
    differing = [part for part in range(3) if part == 0 or len({model[part] for model in models}) > 1]
    return {" ".join(model[part] for part in differing): model for model in models}


def predictions(args: argparse.Namespace) -> "Gathered":
    from nnunetv2_tpmamba.comparison.gather import gather_folders, read_json

    description = read_json(args.labels or find_preprocessed(args.d) / "dataset.json")
    names = [path.name for path in args.predictions]
    if len(set(names)) < len(names):
        names = [str(path) for path in args.predictions]
    return gather_folders(dict(zip(names, args.predictions, strict=True)), args.reference, description)


def tolerances(given: Sequence[str], classes: Sequence[str]) -> dict[str, float]:
    """mm of each class: of its own, else the one without a name.

    Raises:
        ValueError: an unknown class, or no number above 0.
    """
    values: dict[str, float] = dict.fromkeys(classes, TOLERANCE)
    for text in sorted(given, key=lambda text: "=" in text):  # those of a class last
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


def overlays(results: "Results", gathered: "Gathered", args: argparse.Namespace) -> dict[str, tuple[str, bytes]]:
    """The best, the median and the worst case of the first fold, by the mean Dice of all methods."""
    import tempfile

    from nnunetv2_tpmamba.pictures import draw_comparisons, label_names
    from nnunetv2_tpmamba.volumes import read_comparison

    group = results.groups[0]
    fold = group.folds[0]
    dice = {method: results.of_folds_cases(method, fold, "Dice") for method in results.methods}
    mean = {case: statistics.fmean(of[case] for of in dice.values()) for case in dice[results.methods[0]]}
    ranked = sorted((case for case in mean if mean[case] == mean[case]), key=lambda case: -mean[case])
    if not ranked:
        return {}
    ranks = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1))
    cases = []
    for rank, name in zip(ranks, ("best", "median", "worst"), strict=False):
        case = ranked[rank]
        scores = ", ".join(f"{dice[method][case]:.3f}" for method in results.methods)
        files = {method: results.runs[method, fold].predictions[case] for method in results.methods}
        truth = gathered.reference / f"{case}{gathered.description['file_ending']}"
        image = image_of(case, gathered.description, gathered, args.images)
        cases.append(read_comparison(f"{name}: {case}, Dice {scores}", image, truth, files, gathered.description))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "overlays.png")
        draw_comparisons(cases, label_names(gathered.description), path)
        where = f" ({group.title}, fold {fold})" if fold else ""
        return {path.name: (f"Best, median and worst case by the mean Dice of all{where}", path.read_bytes())}


def image_of(case: str, description: Mapping[str, Any], gathered: "Gathered", folder: Path | None) -> Path | None:
    """The first channel of a case, if it can be found."""
    from nnunetv2.paths import nnUNet_raw

    if folder is None and nnUNet_raw.is_set() and gathered.dataset_name:
        folder = Path(nnUNet_raw, gathered.dataset_name, "imagesTr")
    path = None if folder is None else folder / f"{case}_0000{description['file_ending']}"
    return path if path is not None and path.is_file() else None
