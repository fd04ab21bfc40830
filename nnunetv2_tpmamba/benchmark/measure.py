"""Measure contestants in turns, so that a machine that is busy for a while slows all of them alike."""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import TypeVar

import torch

from nnunetv2_tpmamba.networks.ops.implementations import first_line

from .peak_memory import PeakMemory, free
from .task import Contestant, Result, Task, ratio

T = TypeVar("T")
LONGEST = 90  # seconds; a task that has run for longer starts no further round


def run_task(
    task: Task, device: torch.device, repeats: int, on_call: Callable[[str], None] = lambda text: None
) -> list[Result]:
    """Run all contestants of a task in turns, and compare their median times and their peaks of memory.

    A contestant that fails, for instance for lack of memory, becomes a result with its error, and the others go on.

    Args:
        task: the contestants.
        device: where they run.
        repeats: rounds at most; slow tasks have fewer.
        on_call: is told what runs next.
    """
    try:
        makers = task.prepare()
    except Exception as error:
        free(device)
        return [Result(task.part, task.title, "all", error=first_line(error))]
    entries = []
    for name, make in makers.items():
        entry = _Entry(name, device)
        on_call(f"{name}: warm-up")
        entry.attempt(lambda entry=entry, make=make: entry.start(make()))  # type: ignore[misc]
        entries.append(entry)
    started = time.monotonic()
    for i in range(repeats):
        if i and time.monotonic() - started > LONGEST:
            break
        for entry in entries:
            if not entry.error and entry.contestant is not None and entry.contestant.call is not None:
                on_call(f"{entry.name}: {i + 1} of {repeats}")
                entry.attempt(entry.repeat)
    results = [entry.result(task) for entry in entries]
    del entries, makers, entry, make
    free(device)
    return compared(results)


def compared(results: list[Result]) -> list[Result]:
    """Add their ratios to the results of one task."""
    by_name = {result.name: result for result in results}

    def with_ratios(result: Result) -> Result:
        against = result.against or results[0].name
        other = by_name.get(against, results[0])
        if other is result:
            return replace(result, against="")
        return replace(
            result,
            against=against,
            time_ratio=ratio(result.seconds, other.seconds),
            memory_ratio=ratio(result.peak_bytes, other.peak_bytes),
        )

    return [with_ratios(result) for result in results]


def clock(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Run ``call``; return the seconds until the device had done all of it, and what ``call`` returned."""
    synchronize(device)
    start = time.perf_counter()
    answer = call()
    synchronize(device)
    return time.perf_counter() - start, answer


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Entry:
    """A contestant and its measurements so far."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.contestant: Contestant | None = None
        self.seconds: list[float] = []
        self.peaks: list[int] = []
        self.error = ""

    def start(self, contestant: Contestant) -> None:
        self.contestant = contestant
        first = contestant.warm_up or contestant.call
        if first is not None:
            clock(first, self.device)

    def repeat(self) -> None:
        assert self.contestant is not None
        assert self.contestant.call is not None
        held = self.contestant.held()
        with PeakMemory(self.device) as memory:
            seconds, answer = clock(self.contestant.call, self.device)
        if self.contestant.times_itself:
            assert isinstance(answer, float)
            self.seconds.append(answer)
            return
        self.seconds.append(seconds)
        if memory.bytes is not None:
            self.peaks.append(held + memory.bytes)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do ``action``; if it fails, keep the reason and free the contestant's memory."""
        try:
            action()
        except Exception as error:  # out of memory, a kernel that does not work here, a host that changed
            self.error = first_line(error)
        if self.error:  # after the except clause, since the exception holds the failed call's tensors
            self.contestant = None
            free(self.device)

    def result(self, task: Task) -> Result:
        result = Result(task.part, task.title, self.name, error=self.error)
        if self.error or self.contestant is None:
            return result
        return replace(
            result,
            seconds=median(self.seconds) if self.seconds else None,
            repeats=len(self.seconds),
            peak_bytes=max(self.peaks) if self.peaks else None,
            against=self.contestant.against or "",
            flops=self.contestant.flops,
            printed=self.contestant.printed,
            parameters=self.contestant.parameters,
            trainable=self.contestant.trainable,
            counted_bytes=self.contestant.counted_bytes,
            note=self.contestant.note,
        )
