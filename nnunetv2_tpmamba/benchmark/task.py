"""The plain values that the benchmark works with: tasks, their contestants, and results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """One way to do a task.

    Args:
        call: does the task once; None if there is nothing to time.
        times_itself: ``call`` returns the seconds of the part of it that counts; its memory is then not measured.
        against: the contestant to compare it with; None for the first of the task.
        warm_up: is called once before the measurement; None for ``call`` itself.
        held: counts the bytes that belong to it before a call, such as a network's weights.
        flops: floating-point operations of one call, if they are known.
        printed: floating-point operations that the paper gives it, if it does.
        parameters, trainable: how many numbers it has, and how many of them are trained.
        counted_bytes: the peak of its memory, held weights included, if that was counted instead of measured.
        note: what a reader of the table should know.
    """

    call: Callable[[], object] | None
    times_itself: bool = False
    against: str | None = None
    warm_up: Callable[[], object] | None = None
    held: Callable[[], int] = lambda: 0
    flops: float | None = None
    printed: float | None = None
    parameters: int | None = None
    trainable: int | None = None
    counted_bytes: int | None = None
    note: str = ""


Makers = Mapping[str, Callable[[], Contestant]]
"""Functions that make the contestants, by name. Each is called when its turn comes, so that one may fail alone."""


@dataclass(frozen=True)
class Task:
    """Contestants for one piece of work.

    Args:
        part: one of the benchmark's parts.
        title: what the contestants do.
        prepare: makes what they share, which is freed after the task, and returns their makers.
    """

    part: str
    title: str
    prepare: Callable[[], Makers]


@dataclass(frozen=True)
class Result:
    """One contestant's result.

    Args:
        part, task, name: the part, the title of the task and the name of the contestant.
        seconds: median of ``repeats`` calls.
        peak_bytes: the most memory it took, including what it holds between calls.
        against: the contestant it is compared with; "" for the one that the others are compared with.
        time_ratio, memory_ratio: its median and peak divided by the other's; below 1 is less.
        old_time_ratio, old_memory_ratio: the same beside its own result in an older file, if there is one.
        flops, printed, parameters, trainable, counted_bytes, note: as in :class:`Contestant`.
        error: why there is no result; "" if there is one.
    """

    part: str
    task: str
    name: str
    seconds: float | None = None
    repeats: int = 0
    peak_bytes: int | None = None
    against: str = ""
    time_ratio: float | None = None
    memory_ratio: float | None = None
    flops: float | None = None
    printed: float | None = None
    parameters: int | None = None
    trainable: int | None = None
    counted_bytes: int | None = None
    note: str = ""
    error: str = ""
    old_time_ratio: float | None = None
    old_memory_ratio: float | None = None


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """Divide two measurements; None where one of them is missing."""
    return None if ours is None or not theirs else ours / theirs
