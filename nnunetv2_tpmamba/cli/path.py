"""Print the folder for nnU-Net's variable nnUNet_extTrainer, in which nnU-Net finds the trainers.

export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)
"""

import argparse
from pathlib import Path

from nnunetv2_tpmamba.trainers import plugin

HELP = "print the folder for nnUNet_extTrainer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    print(Path(plugin.__path__[0]).absolute())
    return 0
