"""Make nnU-Net's model folder, below nnUNet_results, from a file that `nnUNetv2_tpmamba export` wrote.

SAM's weights are searched for as before a training (see `nnUNetv2_tpmamba weights`); they must be the ones the model
was trained with. Afterwards nnUNetv2_predict works as with the original model. No existing file is overwritten.
"""

import argparse
import shlex
from pathlib import Path

from nnunetv2_tpmamba.data.folders import find_results

HELP = "make a model to predict with from an exported file and SAM's weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a file that `nnUNetv2_tpmamba export` wrote")


def run(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.networks.sam.download import find_sam_checkpoint
    from nnunetv2_tpmamba.networks.sam.known import identify_file
    from nnunetv2_tpmamba.networks.sam.models import model_of
    from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint
    from nnunetv2_tpmamba.trained.exported_file import install_exported_model, read_exported_model
    from nnunetv2_tpmamba.trained.exported_model import trainer_of

    results = find_results()
    description, folds = read_exported_model(args.file)  # first, because finding SAM's weights can mean a download
    config = trainer_of(description).config
    file = find_sam_checkpoint(model_of(config))
    sam = read_sam_checkpoint(file, config)
    encoder = f"{file}, which is {identify_file(file, sam, model_of(config)).name},"
    model = install_exported_model(args.file, sam, results, encoder)
    dataset = description.plans["dataset_name"]
    print(f"The model is in {model}")
    of_model = ["-d", dataset, "-c", description.configuration, "-tr", description.trainer]
    of_model += ["-p", description.plans["plans_name"], "-f", *folds, "-chk", description.checkpoint]
    print(f"Predict with: nnUNetv2_predict -i IMAGES -o OUTPUT {shlex.join(of_model)}")
    return 0
