"""The bash script that runs all trainings of a study, from the template ``train_all.sh``."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template

from nnunetv2_tpmamba.config import PREEMPTED
from nnunetv2_tpmamba.data.folders import PLANS, place_of_repeat

from .plan import Study, Training

TEMPLATE = Path(__file__).with_name("train_all.sh")


class _ShellTemplate(Template):
    delimiter = "%"  # a dollar sign is the shell's


def training_script(study: Study, device: str | None, then: Sequence[str]) -> str:
    """Write a bash script of all trainings, which runs one of them as a Slurm array task, else one after the other.

    When the script is run again, it leaves finished trainings alone and continues the others from their last
    checkpoint. It forwards SIGUSR1, SIGTERM and SIGINT to the training that runs; on Slurm a task that SIGUSR1 stopped
    is queued again. Its exit status is 0, 1 if a training failed, or ``PREEMPTED`` if a signal stopped it.

    Args:
        study: what to train.
        device: what ``nnUNetv2_train`` takes as ``-device``; None leaves the choice to nnU-Net.
        then: the command that shows the results, for the comment on the last line.
    """
    trainings = study.trainings()
    return _ShellTemplate(TEMPLATE.read_text(encoding="utf-8")).substitute(
        count=len(trainings),
        last=len(trainings) - 1,
        trainings=_elements([_command(study, training, device) for training in trainings]),
        folders=_elements([str(study.folder(training)) for training in trainings]),
        preempted=PREEMPTED,
        then=shlex.join(then).replace("\n", " "),  # a second line would be no comment
    )


def compare_command(study: Study) -> list[str]:
    """The command that compares the trainings of all rows."""
    compare = ["nnUNetv2_tpmamba", "compare", "-d", study.dataset, "-tr", *study.rows, "-c", study.configuration]
    return [*compare, *_plans_option(study)]


def _command(study: Study, training: Training, device: str | None) -> str:
    train = ["nnUNetv2_train", study.dataset, study.configuration, str(training.fold.fold), "-tr", training.row]
    of_device = [] if device is None else ["-device", device]
    command = shlex.join([*train, *_plans_option(study), *of_device, "--c"])
    first, place = training.repeat == 1, place_of_repeat(training.repeat)
    return command if first else f'nnUNet_results="$nnUNet_results"/{place} {command}'


def _plans_option(study: Study) -> list[str]:
    return [] if study.plans == PLANS else ["-p", study.plans]


def _elements(values: Sequence[str]) -> str:
    """Quote the values as elements of a bash array, one a line."""
    return "\n    ".join(map(shlex.quote, values))
