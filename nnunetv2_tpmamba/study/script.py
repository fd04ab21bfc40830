"""The bash script that runs all trainings of a few-shot study, from the template ``train_all.sh``."""

import shlex
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from string import Template

from nnunetv2_tpmamba.data.few_shot import Fold
from nnunetv2_tpmamba.data.folders import PLANS

TEMPLATE = Path(__file__).with_name("train_all.sh")


class _ShellTemplate(Template):
    delimiter = "%"  # a dollar sign is the shell's


def training_script(
    dataset: str, folds: Sequence[Fold], trainers: Sequence[str], configuration: str, plans: str, device: str | None
) -> str:
    """Write a bash script of all trainings, which runs one of them as a Slurm array task, else one after the other.

    When the script is run again, it leaves finished trainings alone and continues the others from their last
    checkpoint. Its exit status says whether a training failed.

    Args:
        dataset: the dataset's name.
        folds: folds to train.
        trainers: names of nnU-Net's trainers, each of which trains every fold.
        configuration: name of the configuration in the plans.
        plans: name of the plans.
        device: what ``nnUNetv2_train`` takes as ``-device``; None leaves the choice to nnU-Net.
    """
    of_plans = [] if plans == PLANS else ["-p", plans]
    of_device = [] if device is None else ["-device", device]
    trainings, finished = [], []
    for fold, trainer in product(folds, trainers):
        train = ["nnUNetv2_train", dataset, configuration, str(fold.fold), "-tr", trainer]
        trainings.append(shlex.join([*train, *of_plans, *of_device, "--c"]))
        model = f"{dataset}/{trainer}__{plans}__{configuration}"
        finished.append(f"{model}/fold_{fold.fold}/validation/summary.json")
    compare = ["nnUNetv2_tpmamba", "compare", "-d", dataset, "-tr", *trainers, "-c", configuration, *of_plans]
    return _ShellTemplate(TEMPLATE.read_text(encoding="utf-8")).substitute(
        count=len(trainings),
        last=len(trainings) - 1,
        trainings=_elements(trainings),
        finished=_elements(finished),
        compare=shlex.join(compare).replace("\n", " "),  # a second line would be no comment
    )


def _elements(values: Sequence[str]) -> str:
    """Quote the values as elements of a bash array, one a line."""
    return "\n    ".join(map(shlex.quote, values))
