"""The parts of the report, in the order in which they run, and how its time is shared among them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

MINUTES = 8.0


@dataclass(frozen=True)
class Part:
    """One part.

    Args:
        name: what it is called.
        title: what it shows.
        share: how much of the time it may take, beside the other parts' shares.
        module: has the function ``measure(work)``.
        needs: a part that must have finished before, because this one uses what it leaves.
    """

    name: str
    title: str
    share: float
    module: str
    needs: str = ""


def _part(name: str, title: str, share: float, needs: str = "") -> Part:
    return Part(name, title, share, f"{__package__}.parts.{name}", needs)


# Ordered by importance. These shares, which are relative, should let the parts up to the prediction finish on a machine
# like the first that ran them, whose slow processor needs 10 s to begin a part and two minutes to compile the network.
PARTS = (
    _part("card", "The card, its driver, and the checks of nnUNetv2_tpmamba doctor", 60),
    _part("scan", "The selective scan's kernels against the reference, and their times", 50),
    _part("data", "A SAM file of random weights, and a synthetic data set with nnU-Net's plans, at 1 mm", 110),
    _part("training", "200 compiled iterations of the paper's trainer, with a SAM file of random weights", 350, "data"),
    _part("prediction", "nnUNetv2_predict with the model of the training", 70, "training"),
    _part("network", "The full-size network: fp16 against float32, and memory by count and for real", 75),
    _part(
        "preemption", "A training that a signal stops and --c continues; on two cards where there are two", 80, "data"
    ),
    _part("speed", "Encoder, network and sliding window beside timm and stock nnU-Net", 35),
    _part("unit_tests", "pytest -m gpu", 25),
    _part("rows", "A training step of the rows of the paper's table 1, not compiled", 25),
    _part("estimate", "nnUNetv2_tpmamba study plan --estimate", 15, "data"),
)


def chosen(names: Collection[str]) -> list[Part]:
    """The parts of these names, and those that they need; without names all of them."""
    wanted = {part.name for part in PARTS if not names or part.name in names}
    for part in reversed(PARTS):  # what a part needs comes before it
        if part.name in wanted and part.needs:
            wanted.add(part.needs)
    return [part for part in PARTS if part.name in wanted]


def limit_of(parts: Sequence[Part], index: int, seconds_left: float) -> float:
    """How many seconds a part may take: its share of what is left for it and those after it.

    So every part gets its share of the whole at least, and what one does not use goes to those after it.
    """
    return seconds_left * parts[index].share / sum(part.share for part in parts[index:])
