"""What a study costs on this device, from a few iterations of each row."""

from collections.abc import Callable, Sequence

import torch
from tabulate import tabulate

from .iteration import Iteration, measure
from .plan import Study

LEFT_OUT = (
    "Hours are seconds of an iteration x iterations x epochs. Loading and augmenting data, the validation in each "
    "epoch and at the end, and preprocessing come on top."
)


def device_named(name: str | None) -> torch.device:
    """The device on which a study would train.

    Args:
        name: cuda, cpu or mps; None for nnU-Net's choice, which is cuda.

    Raises:
        RuntimeError: PyTorch does not find it here.
    """
    device = torch.device(name or "cuda")
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not found.get(device.type, True):
        raise RuntimeError(
            f"--estimate: PyTorch finds no {device.type} device here; give this command on the machine that trains, or "
            "name another -device"
        )
    return device


def estimate(study: Study, device: torch.device, log: Callable[[str], None]) -> list[Iteration]:
    """Measure each row of a study, one after the other.

    Args:
        device: where to measure.
        log: is told what each row costs when it is measured.
    """
    results = []
    for number, row in enumerate(study.rows, 1):
        result = measure(study, row, device)
        results.append(result)
        log(f"[{number}/{len(study.rows)}] {row}: {_in_words(result)}")
    return results


def as_text(study: Study, results: Sequence[Iteration], device: torch.device) -> str:
    """Return a table of the rows, the hours of the study, and which rows do not fit."""
    each = len(study.folds) * study.repeats
    table = [
        [
            result.row,
            _number(result.seconds, ".3g"),
            _number(None if result.peak_bytes is None else result.peak_bytes / 1e9, ".1f"),
            "-" if result.hours is None else _hours(result.hours),
            "-" if result.hours is None else _hours(result.hours * each),
        ]
        for result in results
    ]
    headers = ["row", "s per iteration", "peak memory, GB", "h per training", f"h for its {each}"]
    known = [result for result in results if result.hours is not None]
    total = sum(result.hours or 0 for result in known) * each
    lines = [
        tabulate(table, headers, tablefmt="plain", disable_numparse=True, colalign=("left", *["right"] * 4)),
        "",
        f"{len(known) * each} trainings on {describe(device)}, one after the other: {_hours(total)} hours"
        + (f", or {total / 24:,.0f} days" if total >= 2 * 24 else ""),
        LEFT_OUT,
    ]
    small = [result.row for result in results if not result.fits]
    failed = [result.row for result in results if result.problem and result.fits]
    lines += [f"Do not fit on this device: {', '.join(small)}"] if small else []
    lines += [f"Could not be measured, and are not in the hours: {', '.join(failed)}"] if failed else []
    return "\n".join(lines)


def describe(device: torch.device) -> str:
    """Name a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def _in_words(result: Iteration) -> str:
    if result.seconds is None:
        return result.problem if result.fits else f"does not fit: {result.problem}"
    peak = "" if result.peak_bytes is None else f", {result.peak_bytes / 1e9:.1f} GB"
    return f"{result.seconds:.3g} s per iteration{peak}, {_hours(result.hours or 0)} h per training"


def _hours(hours: float) -> str:
    return format(hours, ",.0f" if hours >= 100 else ".1f" if hours >= 1 else ".2g")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
