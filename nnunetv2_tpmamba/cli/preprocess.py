"""Preprocess a planned dataset at 1 mm ahead of training, for nnUNetTrainerTPMamba and all trainers at its spacing.

A training does the same before its first epoch if the data are missing. Use this command on clusters, where one node
preprocesses and another has the GPU. It may be interrupted, started twice and repeated: only cases that are missing or
outdated are preprocessed.
"""

import argparse
import shlex
from functools import partial
from pathlib import Path

from nnunetv2_tpmamba.data.folders import PLANS, find_preprocessed

from .options import CONFIGURATION, TRAINER, add_option

HELP = "preprocess a planned dataset ahead of training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d", nargs="+", help="dataset ids or names, e.g. 702")
    add_option(parser, "-c", nargs="+", default=[CONFIGURATION], help=f"configurations ({CONFIGURATION})")
    add_option(parser, "-p")
    add_option(parser, "-np")
    parser.add_argument(
        "--verify", action="store_true", help="also read all files made before, and make damaged ones again"
    )


def run(args: argparse.Namespace) -> int:
    from nnunetv2.configuration import default_num_processes

    processes = default_num_processes if args.np is None else args.np
    for dataset in args.d:
        for configuration in args.c:
            preprocess(dataset, configuration, args.p, processes, args.verify)
    return 0


def preprocess(dataset: str, configuration: str, plans_name: str, num_processes: int, verify: bool) -> None:
    """Make the data of one configuration; print where they are and how to train on them."""
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.paths import nnUNet_raw

    from nnunetv2_tpmamba.data.orientation import describe_orientations
    from nnunetv2_tpmamba.data.planned_data import PlannedData
    from nnunetv2_tpmamba.data.plans import derive_plans
    from nnunetv2_tpmamba.data.preprocessing import ensure_preprocessed

    preprocessed = find_preprocessed(dataset)
    dataset_name = preprocessed.name
    plans_file = preprocessed / f"{plans_name}.json"
    if not plans_file.is_file():
        raise FileNotFoundError(
            f"{plans_file} does not exist; plan the dataset with nnUNetv2_plan_and_preprocess -d "
            f"{int(dataset_name[7:10])}, or name its plans with -p"
        )
    dataset_json = load_json(str(preprocessed / "dataset.json"))
    data = PlannedData(
        derive_plans(load_json(str(plans_file)), configuration, dataset_json),
        configuration,
        dataset_json,
        raw_folder=Path(nnUNet_raw, dataset_name) if nnUNet_raw.is_set() else None,
        preprocessed_folder=preprocessed,
    )
    log = partial(print, flush=True)  # at once, so that a cluster's log file shows what is going on
    folder = ensure_preprocessed(data, num_processes=num_processes, log=log, verify=verify)
    print(describe_orientations(data))
    cases = len(list(folder.glob("*.pkl")))
    print(f"The data for {dataset_name} {configuration} are in {folder}: {cases} cases{', all read' if verify else ''}")
    other_plans = [] if plans_name == PLANS else ["-p", plans_name]
    train = ["nnUNetv2_train", dataset_name, configuration, "0", "-tr", TRAINER, *other_plans]
    print(f"Train with: {shlex.join(train)}")
