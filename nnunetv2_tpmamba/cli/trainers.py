"""List every trainer that this package gives to nnU-Net, to be named after -tr.

Parameters are counted for one image channel and 14 classes, the paper's. Nothing is trained, read or downloaded.
"""

import argparse
import textwrap

HELP = "list the trainers: what each is, its parameters, what it needs"
INPUT_CHANNELS, NUM_CLASSES = 1, 14
WIDTH = 100  # characters of a line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this verb has no options."""


def run(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.trainers.catalogue import describe, trainers

    for name, trainer in trainers().items():
        facts = describe(trainer, INPUT_CHANNELS, NUM_CLASSES)
        print(name)
        print(textwrap.fill(facts.what, WIDTH, initial_indent="    ", subsequent_indent="    "))
        print(f"    parameters: {facts.parameters:,}, trained: {facts.trained:,}; needs {facts.needs}\n", flush=True)
    print("Each is found by nnU-Net once nnUNet_extTrainer is set: export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)")
    return 0
