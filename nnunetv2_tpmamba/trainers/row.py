"""What the paper's tables say of a trainer, and where its network comes from."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables; ``docs/rows.md`` prints it.

    Args:
        table: which one, such as ``"table 1"``.
        name: of the row, as the paper prints it.
        source: whose code the network is, or whose facts it is written from, with the licence.
        dice: the mean Dice that the paper prints, in %, by the number of training cases.
        differs: how the row differs from what its authors did, or from the paper's words; one or more sentences.
    """

    table: str
    name: str
    source: str
    dice: Mapping[int, float]
    differs: str
