"""Preprocess a planned dataset for nnUNetTrainerTPMamba ahead of its training.

The training does the same when the data are not there yet; this is for clusters, where the node that preprocesses is
not the one with the GPU. It may be interrupted, started twice and repeated: only what is missing or outdated is made.
"""

import argparse
from functools import partial
from pathlib import Path

from nnunetv2_tpmamba.data.folders import find_preprocessed

HELP = "preprocess a planned dataset ahead of training"
TRAINER = "nnUNetTrainerTPMamba"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", nargs="+", required=True, metavar="D", help="dataset ids or names, e.g. 702")
    parser.add_argument("-c", nargs="+", default=["3d_fullres"], metavar="C", help="configurations (3d_fullres)")
    parser.add_argument(
        "-p", default="nnUNetPlans", metavar="PLANS", help="nnU-Net's plans of the dataset (nnUNetPlans)"
    )
    parser.add_argument(
        "-np", type=int, metavar="N", help="processes; fewer need less memory (nnUNet_def_n_proc, else 8)"
    )
    parser.add_argument(
        "--verify", action="store_true", help="read all that was made before and make again what is damaged"
    )


def run(args: argparse.Namespace) -> int:
    from nnunetv2.configuration import default_num_processes

    processes = default_num_processes if args.np is None else args.np
    for dataset in args.d:
        for configuration in args.c:
            preprocess(dataset, configuration, args.p, processes, args.verify)
    return 0


def preprocess(dataset: str, configuration: str, plans_name: str, num_processes: int, verify: bool) -> None:
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.paths import nnUNet_raw

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
    plans = derive_plans(load_json(str(plans_file)), configuration, dataset_json)
    folder = ensure_preprocessed(
        plans,
        configuration,
        dataset_json,
        raw_folder=Path(nnUNet_raw, dataset_name) if nnUNet_raw.is_set() else None,
        preprocessed_folder=preprocessed,
        num_processes=num_processes,
        verify=verify,
        log=partial(print, flush=True),  # a cluster's log file should show it at once
    )
    cases = len(list(folder.glob("*.pkl")))
    print(f"The data for {dataset_name} {configuration} are in {folder}: {cases} cases{', all read' if verify else ''}")
    other_plans = "" if plans_name == "nnUNetPlans" else f" -p {plans_name}"
    print(f"Train with: nnUNetv2_train {dataset_name} {configuration} 0 -tr {TRAINER}{other_plans}")
