"""The paper's trainer as ``nnUNetv2_train`` runs it on a GPU: compiled, fp16 autocast, SAM's file, augmented patches.

The iterations go round a few augmented batches, so that a slow processor, which would keep the card waiting for more of
them, does not hide how fast the card is; how many batches a second it makes is told beside it.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.run.run_training import get_trainer_from_args

from nnunetv2_tpmamba.benchmark.measure import clock
from nnunetv2_tpmamba.gpu_report.work import CONFIGURATION, DATASET, Work
from nnunetv2_tpmamba.networks.ops.implementations import implementation_for
from nnunetv2_tpmamba.trainers.memory import free_bytes, peak_bytes, restart_peak, training_step_bytes

ITERATIONS = {True: 4, False: 200}  # with small sizes or full ones
BATCHES = {True: 2, False: 16}
TO_COUNT_BATCHES = 5  # seconds
KEPT_FREE = 12  # seconds at the end, to write the checkpoint
TOLD_EVERY = 10  # iterations
SMALLEST_SCALE = 1.0  # of the loss; lower means that gradients overflow again and again


def measure(work: Work) -> None:
    notebook = work.notebook
    started = time.monotonic()
    trainer: Any = get_trainer_from_args(DATASET[7:10], CONFIGURATION, 0, work.trainer, device=work.setting.device)
    trainer.on_train_start()
    try:
        notebook.note("from the start to the first batch", round(time.monotonic() - started, 1), "s")
        told_of = Path(trainer.log_file).read_text(encoding="utf-8").splitlines()
        decisions = [line.partition("Activation checkpointing: ")[2] for line in told_of]
        notebook.note("activation checkpointing", next(filter(None, decisions), "no decision was logged"))
        notebook.note("selective scan", implementation_for(work.setting.device.type).name)
        train(work, trainer, batches(work, trainer))
    finally:
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            if isinstance(loader, NonDetMultiThreadedAugmenter):
                loader._finish()


def batches(work: Work, trainer: Any) -> list[dict]:
    """Draw augmented batches, and tell how fast more of them come once those that were waiting are drawn."""
    drawn = [next(trainer.dataloader_train) for _ in range(BATCHES[work.setting.small])]
    started, number = time.monotonic(), 0
    while (seconds := time.monotonic() - started) < TO_COUNT_BATCHES:
        next(trainer.dataloader_train)
        number += 1
    rate = number / seconds
    processes = getattr(trainer.dataloader_train, "num_processes", 1)
    work.notebook.note("augmented batches", round(rate, 2), f"per s, by {processes} processes")
    return drawn


def train(work: Work, trainer: Any, drawn: Sequence[dict]) -> None:
    """Take the iterations, leave a checkpoint, and validate once."""
    notebook, device = work.notebook, trainer.device
    shape = tuple(drawn[0]["data"].shape)
    counted = training_step_bytes(trainer.bare_network(), shape, device.type)
    notebook.note("memory of an iteration by count", round(counted / 1e9, 2), "GB")
    notebook.note("free memory before", round((free_bytes(device) or 0) / 1e9, 2), "GB")
    restart_peak(device)
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    seconds: list[float] = []
    losses: list[float] = []
    most = ITERATIONS[work.setting.small]
    while len(losses) < most and work.seconds_left() > KEPT_FREE:
        batch = drawn[len(losses) % len(drawn)]
        taken, result = clock(lambda batch=batch: trainer.train_step(batch), device)  # type: ignore[misc]
        seconds.append(taken)
        losses.append(float(result["loss"]))
        if len(losses) in (1, 2) or len(losses) % TOLD_EVERY == 0 or len(losses) == most:
            tell(work, trainer, seconds, losses)
    tell(work, trainer, seconds, losses)
    notebook.check(f"{most} iterations were taken", len(losses) == most, len(losses))
    trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    if work.seconds_left() < KEPT_FREE + seconds[0]:  # the network is compiled anew for it
        notebook.note("a validation step", "not tried, because no time was left")
        return
    trainer.on_validation_epoch_start()
    with torch.no_grad():
        taken, result = clock(lambda: trainer.validation_step(next(trainer.dataloader_val)), device)
    notebook.note("a validation step, compiled for it", round(taken, 2), "s")
    notebook.check("a validation step's loss is finite", math.isfinite(float(result["loss"])))


def tell(work: Work, trainer: Any, seconds: Sequence[float], losses: Sequence[float]) -> None:
    """Write down how the training stands; later words replace earlier ones."""
    notebook = work.notebook
    notebook.note("iterations", len(losses))
    notebook.note("first iteration, in which torch.compile works", round(seconds[0], 1), "s")
    if len(seconds) > 1:
        notebook.note("seconds per iteration, median without the first", round(median(seconds[1:]), 4), "s")
        notebook.note("slowest iteration after the second", round(max(seconds[2:], default=0.0), 3), "s")
    few = max(1, len(losses) // 10)
    first, last = (sum(part) / few for part in (losses[:few], losses[-few:]))
    notebook.note(f"mean loss of the first and the last {few}", f"{first:.4f}, {last:.4f}")
    notebook.check("all losses are finite", all(map(math.isfinite, losses)))
    if len(losses) == ITERATIONS[False]:  # fewer prove nothing
        notebook.check("the loss falls", last < first)
    peak = peak_bytes(trainer.device)
    if peak is not None:
        notebook.note("peak memory", round(peak / 1e9, 2), "GB")
    if trainer.device.type == "cuda":
        notebook.note("reserved memory", round(torch.cuda.max_memory_reserved() / 1e9, 2), "GB")
    if trainer.grad_scaler is not None:
        scale = trainer.grad_scaler.get_scale()
        notebook.check("scale of the loss", scale >= SMALLEST_SCALE, scale)
    tell_of_compilation(work, compiled=trainer.bare_network() is not trainer.network)


def tell_of_compilation(work: Work, compiled: bool) -> None:
    """Tell how many graphs torch.compile made, and where it could not go on."""
    from torch._dynamo.utils import counters

    work.notebook.note("compiled", str(compiled))
    if not compiled:
        return
    breaks = counters["graph_break"]
    work.notebook.check("graph breaks", not breaks, sum(breaks.values()))
    for reason, number in list(breaks.items())[:5]:
        work.notebook.note(f"graph break: {' '.join(str(reason).split())[:200]}", number)
    work.notebook.note("graphs", counters["stats"].get("unique_graphs", 0))
