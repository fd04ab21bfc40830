"""What is to be measured side by side, and what came out: plain values that a file can hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """One way to do a task.

    Args:
        call: does it once; None if there is nothing to time.
        times_itself: the call returns the seconds that count, those of a part of it; its memory is not that part's.
        against: whom it is compared with; the first of the task if None.
        warm_up: is called once before the measurement, instead of ``call``.
        held: bytes that belong to it before each call, such as a network's weights.
        flops: floating-point operations of one call, where they are known.
        parameters, trainable: how many numbers it has, and how many of them train.
        note: what a reader should know.
    """

    call: Callable[[], object] | None
    times_itself: bool = False
    against: str | None = None
    warm_up: Callable[[], object] | None = None
    held: Callable[[], int] = lambda: 0
    flops: float | None = None
    parameters: int | None = None
    trainable: int | None = None
    note: str = ""


Makers = Mapping[str, Callable[[], Contestant]]
"""By name, the one to compare with first. Each is made when its turn comes, so that one may fail alone."""


@dataclass(frozen=True)
class Task:
    """Contestants for one piece of work; ``prepare`` makes what they share, which is freed after the task."""

    part: str
    title: str
    prepare: Callable[[], Makers]


@dataclass(frozen=True)
class Row:
    """One contestant's result.

    Args:
        part, task, name: who, at what.
        seconds: median of ``repeats`` calls.
        peak_bytes: the most memory it took, what it holds included.
        against: whom it is compared with, "" for the one that the others are compared with.
        time_ratio, memory_ratio: its median and its peak by theirs; below 1 is less.
        flops, parameters, trainable, note: as in :class:`Contestant`.
        error: why there is no result.
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
    parameters: int | None = None
    trainable: int | None = None
    note: str = ""
    error: str = ""
