"""A few real iterations of a row on this device, in a process of their own, which may die without harm."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_tpmamba.benchmark.measure import LONGEST, clock
from nnunetv2_tpmamba.files import whole_or_absent
from nnunetv2_tpmamba.trainers import plugin
from nnunetv2_tpmamba.trainers.memory import die_first, free_bytes, peak_bytes, training_step_bytes
from nnunetv2_tpmamba.trainers.sam import nnUNetTrainerSAM
from nnunetv2_tpmamba.trainers.testbed import nnUNetTrainerTestbed

from .plan import Study

WARM_UPS = {"cuda": 3}  # iterations before the clock runs, 1 on other devices; compiling takes the first
ITERATIONS = 5  # whose median counts, at most
RESULT = "iteration.json"
NO_MEMORY = "can't allocate memory"  # what PyTorch says on a CPU, as a RuntimeError


@dataclass(frozen=True)
class Iteration:
    """What an iteration of a row costs.

    Args:
        row: name of the trainer.
        seconds: median of the iterations; None if there were none.
        peak_bytes: the most memory that the process had, as a training logs it; None where that cannot be asked.
        per_training: how many iterations a training has.
        problem: why there were none; "" if there were.
        fits: the device has enough memory.
    """

    row: str
    seconds: float | None = None
    peak_bytes: int | None = None
    per_training: int = 0
    problem: str = ""
    fits: bool = True

    @property
    def hours(self) -> float | None:
        """What all iterations of a training take."""
        return None if self.seconds is None else self.seconds * self.per_training / 3600


def measure(study: Study, row: str, device: torch.device) -> Iteration:
    """Take a few iterations of a row as nnU-Net's trainer takes them, on random patches of the data set's channels.

    The network, its patch, the batch, the optimiser, the loss and its compilation are the trainer's own. Data loading,
    augmentation and the validation are left out, and SAM's weights are random. A row that lacks memory, or whose
    process the system ends for it, becomes a result that says so. Nothing is written into nnU-Net's folders.

    Args:
        study: the dataset, its configuration and its plans.
        row: name of the trainer.
        device: where to train.
    """
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"nnUNet_extTrainer": plugin.__path__[0]} | os.environ
        environment |= {"nnUNet_results": scratch, "nnUNet_wandb_enabled": "0"}
        command = [sys.executable, "-m", __name__, study.dataset, study.configuration, study.plans, row, str(device)]
        process = subprocess.run(
            [*command, scratch],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        result = Path(scratch, RESULT)
        if result.is_file():
            return Iteration(**json.loads(result.read_text(encoding="utf-8")))
    if process.returncode == -signal.SIGKILL:
        return Iteration(row, problem="the system killed its process, which it does if memory runs out", fits=False)
    said = process.stderr.strip().splitlines()
    return Iteration(row, problem=f"its process ended with status {process.returncode}: {said[-1] if said else ''}")


def main() -> None:
    """The process of its own; its arguments are those that :func:`measure` gives it."""
    dataset, configuration, plans, row, device, scratch = sys.argv[1:]
    die_first()
    try:
        result = _iterations(dataset, configuration, plans, row, torch.device(device), Path(scratch))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        result = Iteration(row, problem=reason, fits=not _is_lack_of_memory(error))
    with whole_or_absent(Path(scratch, RESULT)) as unfinished:
        unfinished.write_text(json.dumps(asdict(result)), encoding="utf-8")


def _iterations(
    dataset: str, configuration: str, plans: str, row: str, device: torch.device, scratch: Path
) -> Iteration:
    torch.set_num_threads((os.cpu_count() or 1) if device.type == "cpu" else 1)  # as nnUNetv2_train
    torch.backends.cudnn.benchmark = True
    trainer = get_trainer_from_args(dataset, configuration, 0, row, plans, device=device)
    _initialize(trainer, scratch)
    per_training = trainer.num_epochs * trainer.num_iterations_per_epoch
    shape = (trainer.batch_size, trainer.num_input_channels, *trainer.configuration_manager.patch_size)
    if problem := _lack_of_memory(trainer, shape):
        return Iteration(row, per_training=per_training, problem=problem, fits=False)
    batch = {"data": torch.rand(shape), "target": _random_target(trainer, shape), "keys": ["random"]}
    for _ in range(WARM_UPS.get(device.type, 1)):
        trainer.train_step(batch)
    seconds: list[float] = []
    started = time.monotonic()
    while len(seconds) < ITERATIONS and (not seconds or time.monotonic() - started < LONGEST):
        seconds.append(clock(lambda: trainer.train_step(batch), trainer.device)[0])
    return Iteration(row, median(seconds), peak_bytes(trainer.device), per_training)


def _initialize(trainer: nnUNetTrainer, scratch: Path) -> None:
    """Do what a training does before its first epoch, without the data set's files."""
    (scratch / "data.b2nd").touch()  # nnU-Net looks how data are stored
    trainer.preprocessed_dataset_folder = str(scratch)
    if isinstance(trainer, nnUNetTrainerTestbed):
        trainer.preprocess = lambda: None  # type: ignore[method-assign]
        trainer.initialize(pretrained=False)
    else:
        trainer.initialize()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    if isinstance(trainer, nnUNetTrainerSAM):
        trainer.decide_checkpointing()
    trainer.network.train()


def _lack_of_memory(trainer: nnUNetTrainer, shape: tuple[int, ...]) -> str:
    """Say that an iteration needs more main memory than is free, by count; "" if not, or on other devices.

    A GPU just says so. On a CPU the system would end this process, or others.
    """
    free = free_bytes(trainer.device)
    if trainer.device.type != "cpu" or free is None:
        return ""
    needed = training_step_bytes(trainer.network, shape, trainer.device.type)
    return f"an iteration needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free" if needed > free else ""


def _random_target(trainer: nnUNetTrainer, shape: tuple[int, ...]) -> Any:
    """Labels or regions of a batch, one tensor per resolution where the trainer has deep supervision."""
    batch, _, *patch = shape
    labels = trainer.label_manager
    scales = trainer._get_deep_supervision_scales()
    sizes = (
        [patch] if scales is None else [[round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in scales]
    )
    if labels.has_regions:
        maps = len(labels.foreground_regions) + (labels.ignore_label is not None)
        targets = [torch.rand(batch, maps, *size) > 0.5 for size in sizes]
    else:
        targets = [torch.randint(labels.num_segmentation_heads, (batch, 1, *size), dtype=torch.int16) for size in sizes]
    return targets[0] if scales is None else targets


def _is_lack_of_memory(error: BaseException | None) -> bool:
    """Whether an error or what caused it is that the device has too little memory."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or NO_MEMORY in str(error):
            return True
        error = error.__cause__
    return False


if __name__ == "__main__":
    main()
