"""Print the folder in which nnU-Net finds the trainers, for its environment variable nnUNet_extTrainer:

export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)
"""

import argparse
from pathlib import Path

from nnunetv2_tpmamba.trainers import plugin

HELP = "print the folder for nnUNet_extTrainer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this verb has no options."""


def run(args: argparse.Namespace) -> int:
    print(Path(plugin.__path__[0]).absolute())
    return 0
