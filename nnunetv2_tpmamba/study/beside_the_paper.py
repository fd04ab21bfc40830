"""The paper's printed numbers beside those of a study, where the data set has BTCV's organs."""

import re
from collections.abc import Mapping, Sequence

from nnunetv2_tpmamba.comparison.document import DASH, Block, Heading, Paragraph, Table, defined
from nnunetv2_tpmamba.comparison.results import MEAN, Group, Results
from nnunetv2_tpmamba.trainers import catalogue
from nnunetv2_tpmamba.trainers.paper import ORGANS, REVISITED, organs_of_table_1
from nnunetv2_tpmamba.trainers.row import Row

FILLERS = {"and", "gland", "vein", "veins"}
SHORT = dict(
    zip(
        ("spl", "rkid", "lkid", "gall", "eso", "liv", "sto", "aor", "ivc", "psv", "pan", "rad", "lad"),
        ORGANS,
        strict=True,
    )
) | {"oesophagus": "esophagus", "postcava": "inferior_vena_cava", "veins": "portal_and_splenic_vein"}
"""Names of BTCV's classes in other people's ``dataset.json``."""


def beside_the_paper(results: Results) -> list[Block]:
    """A table for each number of training cases that the paper has, and what others measured of the same networks."""
    rows = {name: trainer.row for name, trainer in catalogue.rows().items() if trainer.row}
    organs = organs_of(results.classes)
    if organs is None:
        return [
            Heading("Beside the paper"),
            Paragraph(
                "The paper's printed numbers are left out: they are for the 13 organs of BTCV, and this data set has "
                "other classes."
            ),
        ]
    blocks: list[Block] = [Heading("Beside the paper"), Paragraph(EXPLANATION)]
    for group in results.groups:
        if lines := lines_of_group(results, group, rows, organs):
            blocks += [Heading(group.title, 3), Table(["", MEAN, *results.classes], lines)]
    return [*blocks, *context(results.methods)]


EXPLANATION = (
    "Dice in %. Lines marked as printed are numbers that Wang et al. (MICCAI 2024, tables 1 to 4) print for BTCV. The "
    "others are measured here. The paper does not say which cases it tested on, nor with which draws it trained, so "
    "the two are not the same experiment. Tables 2 to 4 print no single organs."
)


def lines_of_group(
    results: Results, group: Group, rows: Mapping[str, Row], organs: Mapping[str, str]
) -> list[list[str]]:
    """Two lines for each method of which the paper prints a Dice with as many training cases: printed, and measured."""
    if group.training_cases is None:
        return []
    lines = []
    for method in results.methods:
        mean = rows[method].dice.get(group.training_cases) if method in rows else None
        if mean is None:
            continue
        row = rows[method]
        single = printed_organs(row, group.training_cases)
        printed = [f"{single[organs[name]]:.1f}" if single else DASH for name in results.classes]
        measured = results.of_group(method, group, "Dice")
        here = [measured[name].mean for name in (MEAN, *results.classes)]
        lines.append([f"{row.name}, printed", f"{mean:.1f}", *printed])
        lines.append([f"{row.name}, here", *(defined(100 * dice, ".1f") for dice in here)])
    return lines


def printed_organs(row: Row, cases: int) -> Mapping[str, float]:
    """What table 1 prints for the organs of a row; nothing for rows of other tables.

    U-Mamba is printed once, and stands beside both of its networks.
    """
    if row.table != "table 1":
        return {}
    return next(
        (organs for name, organs in organs_of_table_1().get(cases, {}).items() if row.name.startswith(name)), {}
    )


def context(methods: Sequence[str]) -> list[Block]:
    """What "nnU-Net Revisited" measured of the networks that the study has."""
    lines = [
        [each.network, f"{each.dice:.2f}", f"{each.memory_gb:g}", f"{each.hours}"]
        for each in REVISITED
        if each.trainer in methods
    ]
    if not lines:
        return []
    return [
        Heading("What others measured, as context", 3),
        Paragraph(
            'Printed by Isensee et al., "nnU-Net Revisited", MICCAI 2024, for BTCV: five-fold cross-validation, '
            "trained from scratch with the settings of each network's authors. Splits and settings are neither the "
            "paper's nor this study's."
        ),
        Table(["", "Dice in %", "GPU memory, GB", "hours on an A100"], lines),
    ]


def organs_of(classes: Sequence[str]) -> dict[str, str] | None:
    """BTCV's organ for each class, or None if the classes are not BTCV's 13 organs."""
    organs = {name: organ_of(name) for name in classes}
    if sorted(map(str, organs.values())) != sorted(ORGANS):
        return None
    return {name: organ for name, organ in organs.items() if organ is not None}


def organ_of(name: str) -> str | None:
    """BTCV's organ that a class is called after, in whatever order of its words, or None."""
    words = words_of(name)
    if len(words) == 1 and (short := SHORT.get(next(iter(words)))):
        return short
    return next((organ for organ in ORGANS if words_of(organ) - FILLERS == words - FILLERS), None)


def words_of(name: str) -> frozenset[str]:
    return frozenset(re.findall("[a-z]+", name.lower()))
