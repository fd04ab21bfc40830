"""The results as a file of Markdown tables, and as lines for the terminal."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import groupby, pairwise

import torch
from tabulate import tabulate

from nnunetv2_tpmamba.trainers.environment import processor

from .load import load
from .setting import Setting
from .task import Result

HEADINGS = {
    "encoder": "SAM's encoder: timm's blocks and ours, on the same weights",
    "scan": "The selective scan",
    "network": "The whole network",
    "prediction": "Sliding-window prediction of a CT",
    "flops": "Adapters by their arithmetic",
    "rows": "The rows of the paper's tables",
}
READING = """\
A time is the median of n calls, which take turns with the calls of the task's other lines. A ratio is a line's number
divided by that of the line it is compared with; below 1 is less. Peak memory is what one call takes in addition to the
memory in use before it, plus the network's weights, gradients and optimiser. All weights are random: speed does not
depend on them."""
READING_OLD = """\
The columns "time / old" and "memory / old" divide a line's number by that of the same line in the older file."""


def about(setting: Setting, command: Sequence[str]) -> dict[str, str]:
    """Describe where and how the measurement was made."""
    gpu = setting.device.type == "cuda"
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(command),
        "sizes": "TINY (--small): a trial of the command, the times mean nothing" if setting.small else "full",
        "device": torch.cuda.get_device_name(setting.device) if gpu else "cpu",
        "precision": setting.precision,
        **machine(),
        **({"cuda": str(torch.version.cuda)} if gpu else {}),
    }


def machine() -> dict[str, str]:
    """Describe the machine and what is installed on it, without touching a GPU."""
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        **load(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("nnunetv2_tpmamba", "torch", "timm", "nnunetv2", "numba")},
    }


def as_markdown(
    results: Sequence[Result], facts: Mapping[str, str], complete: bool, warnings: Sequence[str] = ()
) -> str:
    """Write a table for each part, without columns that would be empty."""
    pieces = ["# Benchmark"] if complete else ["# Benchmark, not finished"]
    lines = [f"- {name}: {fact}" for name, fact in facts.items()]
    pieces.append("\n".join([*lines, *(f"- **warning**: {warning}" for warning in warnings)]))
    pieces.append(READING)
    if any(result.old_time_ratio or result.old_memory_ratio for result in results):
        pieces.append(READING_OLD)
    rate = device_rate(results)
    for part, group in groupby(results, key=lambda result: result.part):
        pieces += [f"## {HEADINGS.get(part, part)}", table(list(group), rate)]
    return "\n\n".join(pieces) + "\n"


def table(results: Sequence[Result], rate: float | None) -> str:
    """Write the results of one part as a Markdown table.

    Args:
        results: the results of the part.
        rate: operations per second that the device can do, of which a share is shown; None if that is unknown.
    """
    columns: dict[str, Callable[[Result], str]] = {
        "task": lambda result: result.task,
        "who": lambda result: result.name,
        "time (n)": lambda result: "" if result.seconds is None else f"{duration(result.seconds)} ({result.repeats})",
        "peak memory": lambda result: "" if result.peak_bytes is None else size(result.peak_bytes),
        "peak by count": lambda result: "" if result.counted_bytes is None else size(result.counted_bytes),
        "compared with": lambda result: result.against if result.time_ratio or result.memory_ratio else "",
        "time ratio": lambda result: "" if result.time_ratio is None else digits(result.time_ratio),
        "memory ratio": lambda result: "" if result.memory_ratio is None else digits(result.memory_ratio),
        "time / old": lambda result: "" if result.old_time_ratio is None else digits(result.old_time_ratio),
        "memory / old": lambda result: "" if result.old_memory_ratio is None else digits(result.old_memory_ratio),
        "operations": lambda result: "" if result.flops is None else f"{digits(result.flops / 1e9)} GFLOP",
        "multiply-adds": lambda result: _multiply_adds(result.flops) if result.part == "flops" else "",
        "in the paper": lambda result: _multiply_adds(result.printed),
        "of the device's rate": lambda result: _share(result, rate),
        "parameters": lambda result: "" if result.parameters is None else f"{digits(result.parameters / 1e6)} M",
        "which train": lambda result: "" if result.trainable is None else f"{digits(result.trainable / 1e6)} M",
        "note": lambda result: f"FAILED: {result.error}" if result.error else result.note,
    }
    cells = {title: [cell(result).replace("|", "/") for result in results] for title, cell in columns.items()}
    cells["task"] = ["" if task == before else task for before, task in pairwise(["", *cells["task"]])]
    kept = {title: column for title, column in cells.items() if any(column)}
    return tabulate(kept, headers="keys", tablefmt="github", disable_numparse=True)


def summary(result: Result) -> str:
    """Write a result as a line for the terminal."""
    if result.error:
        return f"{result.name}: FAILED, {result.error}"
    facts = []
    if result.seconds is not None:
        facts.append(duration(result.seconds))
    if result.time_ratio is not None:
        facts.append(f"{digits(result.time_ratio)} x {result.against}")
    if result.peak_bytes is not None:
        facts.append(size(result.peak_bytes))
    old = {"time": result.old_time_ratio, "memory": result.old_memory_ratio}
    facts += [f"{digits(ratio)} x its old {what}" for what, ratio in old.items() if ratio is not None]
    if result.flops is not None and result.seconds is None:
        facts.append(f"{digits(result.flops / 1e9)} GFLOP")
    if result.printed is not None:
        facts.append(f"{_multiply_adds(result.flops)} multiply-adds (the paper: {_multiply_adds(result.printed)})")
    return f"{result.name}: {', '.join(facts)}"


def device_rate(results: Sequence[Result]) -> float | None:
    """Operations per second of the result that is a plain matrix product, if it was measured."""
    products = [result for result in results if result.name == "matrix product"]
    rates = [result.flops / result.seconds for result in products if result.flops and result.seconds]
    return rates[0] if rates else None


def duration(seconds: float) -> str:
    return f"{digits(seconds)} s" if seconds >= 1 else f"{digits(seconds * 1e3)} ms"


def size(num_bytes: float) -> str:
    return f"{digits(num_bytes / 2**30)} GiB" if num_bytes >= 2**30 else f"{digits(num_bytes / 2**20)} MiB"


def digits(number: float, least: int = 3) -> str:
    """Write a number with at least three digits, or as many as asked for, and without an exponent unless it is tiny."""
    return f"{number:.0f}" if abs(number) >= 10 ** (least - 1) else f"{number:.{least}g}"


def _multiply_adds(flops: float | None) -> str:
    """Half of the operations, with the four digits that the paper prints."""
    return "" if flops is None else f"{digits(flops / 2e9, 4)} G"


def _share(result: Result, rate: float | None) -> str:
    if rate is None or result.flops is None or result.seconds is None:
        return ""
    return f"{result.flops / result.seconds / rate:.0%} of {digits(rate / 1e12)} TFLOP/s"
