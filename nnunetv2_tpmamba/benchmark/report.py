"""The results as a file of Markdown tables, as JSON, and as lines for the terminal."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import groupby, pairwise

import torch
from tabulate import tabulate

from nnunetv2_tpmamba.trainers.environment import processor

from .setting import Setting
from .task import Row

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


def about(setting: Setting, command: Sequence[str]) -> dict[str, str]:
    """Describe where and how the measurement was made."""
    gpu = setting.device.type == "cuda"
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(command),
        "sizes": "TINY (--small): a trial of the command, the times mean nothing" if setting.small else "full",
        "device": torch.cuda.get_device_name(setting.device) if gpu else "cpu",
        "precision": setting.precision,
        "processor": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("nnunetv2_tpmamba", "torch", "timm", "nnunetv2", "numba")},
        **({"cuda": str(torch.version.cuda)} if gpu else {}),
    }


def as_json(rows: Sequence[Row], facts: Mapping[str, str], complete: bool) -> str:
    """Write ``{"about": ..., "complete": ..., "rows": [...]}``; a row has the fields of :class:`Row`."""
    content = {"about": facts, "complete": complete, "rows": [asdict(row) for row in rows]}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def as_markdown(rows: Sequence[Row], facts: Mapping[str, str], complete: bool) -> str:
    """Write a table for each part, without columns that would be empty."""
    pieces = ["# Benchmark"] if complete else ["# Benchmark, not finished"]
    pieces.append("\n".join(f"- {name}: {fact}" for name, fact in facts.items()))
    pieces.append(READING)
    rate = device_rate(rows)
    for part, group in groupby(rows, key=lambda row: row.part):
        pieces += [f"## {HEADINGS.get(part, part)}", table(list(group), rate)]
    return "\n\n".join(pieces) + "\n"


def table(rows: Sequence[Row], rate: float | None) -> str:
    """Write the rows of one part as a Markdown table.

    Args:
        rows: the results of the part.
        rate: operations per second that the device can do, of which a share is shown; None if that is unknown.
    """
    columns: dict[str, Callable[[Row], str]] = {
        "task": lambda row: row.task,
        "who": lambda row: row.name,
        "time (n)": lambda row: "" if row.seconds is None else f"{duration(row.seconds)} ({row.repeats})",
        "peak memory": lambda row: "" if row.peak_bytes is None else size(row.peak_bytes),
        "peak by count": lambda row: "" if row.counted_bytes is None else size(row.counted_bytes),
        "compared with": lambda row: row.against if row.time_ratio or row.memory_ratio else "",
        "time ratio": lambda row: "" if row.time_ratio is None else digits(row.time_ratio),
        "memory ratio": lambda row: "" if row.memory_ratio is None else digits(row.memory_ratio),
        "operations": lambda row: "" if row.flops is None else f"{digits(row.flops / 1e9)} GFLOP",
        "multiply-adds": lambda row: _multiply_adds(row.flops) if row.part == "flops" else "",
        "in the paper": lambda row: _multiply_adds(row.printed),
        "of the device's rate": lambda row: _share(row, rate),
        "parameters": lambda row: "" if row.parameters is None else f"{digits(row.parameters / 1e6)} M",
        "which train": lambda row: "" if row.trainable is None else f"{digits(row.trainable / 1e6)} M",
        "note": lambda row: f"FAILED: {row.error}" if row.error else row.note,
    }
    cells = {title: [cell(row).replace("|", "/") for row in rows] for title, cell in columns.items()}
    cells["task"] = ["" if task == before else task for before, task in pairwise(["", *cells["task"]])]
    kept = {title: column for title, column in cells.items() if any(column)}
    return tabulate(kept, headers="keys", tablefmt="github", disable_numparse=True)


def summary(row: Row) -> str:
    """Write a row as a line for the terminal."""
    if row.error:
        return f"{row.name}: FAILED, {row.error}"
    facts = []
    if row.seconds is not None:
        facts.append(duration(row.seconds))
    if row.time_ratio is not None:
        facts.append(f"{digits(row.time_ratio)} x {row.against}")
    if row.peak_bytes is not None:
        facts.append(size(row.peak_bytes))
    if row.flops is not None and row.seconds is None:
        facts.append(f"{digits(row.flops / 1e9)} GFLOP")
    if row.printed is not None:
        facts.append(f"{_multiply_adds(row.flops)} multiply-adds (the paper: {_multiply_adds(row.printed)})")
    return f"{row.name}: {', '.join(facts)}"


def device_rate(rows: Sequence[Row]) -> float | None:
    """Operations per second of the row that is a plain matrix product, if it was measured."""
    rates = [row.flops / row.seconds for row in rows if row.name == "matrix product" and row.flops and row.seconds]
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


def _share(row: Row, rate: float | None) -> str:
    if rate is None or row.flops is None or row.seconds is None:
        return ""
    return f"{row.flops / row.seconds / rate:.0%} of {digits(rate / 1e12)} TFLOP/s"
