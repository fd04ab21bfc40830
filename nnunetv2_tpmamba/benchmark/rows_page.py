"""Write ``docs/rows.md``: what differs between the rows of the paper's tables, on one page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunetv2_tpmamba.trainers import catalogue
from nnunetv2_tpmamba.trainers.paper import OURS_IN_LATER_TABLES, REVISITED
from nnunetv2_tpmamba.trainers.row import Row
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

from .report import digits
from .results_file import ResultsFile
from .rows import STEP, Counts, Trainer, count

OURS: Trainer = nnUNetTrainerTPMamba
UNKNOWN = "-"
INTRODUCTION = """\
# The rows of the paper's tables

Every row is a trainer, and all of them train on the same data, patches, augmentation, loss, optimiser and schedule
([the testbed](paper-map.md#the-testbed)). This page shows what differs. A command writes it, and
`tests/benchmark/test_rows_page.py` compares the two:

```bash
nnUNetv2_tpmamba benchmark --only rows --json rows.json     # on the machine to be measured; -tr NAME ... for some rows
nnUNetv2_tpmamba trainers --markdown --measured rows.json > docs/rows.md
```

The numbers are not a ranking. None of the trainers has been trained on the paper's data here.

- **Parameters, GMAC and memory are counted**, not measured, for one channel, 14 classes and a patch of 96 x 96 x 96.
- **GMAC**: multiply-adds of a forward pass in training, with the outputs of all resolutions, in 10^9: half of what
  PyTorch's flop counter says. A scan counts as 9 operations for each step, channel and state; norms, activations and
  interpolation count as nothing.
- **Memory**: peak of a training step of one patch under fp16 autocast, in GB (10^9 bytes), without recomputed blocks:
  weights, gradients, AdamW's moments and what the backward pass reads. A device needs about a quarter more.
- **Seconds per iteration** are measured: forward, loss, backward, clipping and AdamW, batch of one, random data.
  [Benchmarks](benchmarks.md) says how often, and how far two runs differ.
- **Dice** is what the paper prints for BTCV, in %, by the number of training cases.
- **Tables 2 and 3** can be read in two ways ([paper map](paper-map.md)): as a change of the full module (reading A), or
  as the part alone (reading B, names that end in `_only`). The printed Dice belongs to one of them. The paper does not
  say to which; the numbers look like reading B.
"""
CONTEXT = """\
## What others measured, as context

Isensee et al., "nnU-Net Revisited", MICCAI 2024, print these numbers for BTCV: five-fold cross-validation, networks
trained from scratch in nnU-Net with each author's settings. The splits and settings are not the paper's, so the two
Dice columns are not to be compared with each other.
"""


@dataclass(frozen=True)
class Measured:
    """What a file of ``nnUNetv2_tpmamba benchmark --json`` says of rows.

    Args:
        about: where and how it was measured.
        seconds: of a training step, by trainer.
        errors: why there is no time, by trainer.
    """

    about: Mapping[str, str]
    seconds: Mapping[str, float]
    errors: Mapping[str, str]

    @classmethod
    def read(cls, file: Path) -> "Measured":
        """Read a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is another file, has no rows, or was made with ``--small``.
        """
        command = "nnUNetv2_tpmamba benchmark --only rows --json FILE"
        content = ResultsFile.read(file, command)
        results = [result for result in content.results if result.part == "rows"]
        if not results:
            raise ValueError(f"{file} has no rows of the paper's tables; make it with {command}")
        if content.about.get("sizes") != "full":
            raise ValueError(f"{file} was measured with --small, so its times mean nothing; leave that option out")
        seconds = {result.task: result.seconds for result in results if result.name == STEP and result.seconds}
        return cls(content.about, seconds, {result.task: result.error for result in results if result.error})

    @property
    def on_gpu(self) -> bool:
        return self.about["device"] != "cpu"

    def where(self) -> str:
        device = self.about["device"] if self.on_gpu else self.about["processor"]
        text = f"{device}, {self.about['precision']}, {self.about['date']}"
        failed = "; ".join(f"{name}: {error}" for name, error in self.errors.items())
        return f"- {text}" + (f". Not measured: {failed}" if failed else "")


def write_page(files: Sequence[Path], on_row: Callable[[str], None] = lambda name: None) -> str:
    """Count all rows, which takes minutes, and write the page.

    Args:
        files: results of ``nnUNetv2_tpmamba benchmark --json``; where two measured the same, the later one counts.
        on_row: is told which row is counted next.

    Raises:
        RuntimeError: a package that a row needs is missing.
        ValueError: a file is not a result.
    """
    measured = [Measured.read(file) for file in files]
    counts = {}
    for name, trainer in catalogue.rows().items():
        on_row(name)
        try:
            counts[name] = count(trainer)
        except ImportError as error:
            raise RuntimeError(f"{name} cannot be counted: {error}") from error
    return as_page(counts, measured)


def as_page(counts: Mapping[str, Counts], measured: Sequence[Measured]) -> str:
    """Write the page from counts of each row, and from what was measured."""
    pieces = [INTRODUCTION]
    if measured:
        pieces += ["Seconds per iteration were measured on:\n", *(each.where() for each in measured), ""]
    for title, rows in _sections().items():
        pieces += [f"## {title[0].upper()}{title[1:]}\n", _numbers(rows, counts, measured), _differences(rows)]
    pieces += [_originals(), CONTEXT, _revisited()]
    return "\n".join(pieces)


def _sections() -> dict[str, list[tuple[Trainer, Row]]]:
    """The rows by table, in the paper's order; the paper's own method is the last of each."""
    sections: dict[str, list[tuple[Trainer, Row]]] = {title: [] for title in ("table 1", *OURS_IN_LATER_TABLES)}
    for trainer in sorted(catalogue.rows().values(), key=lambda trainer: trainer is OURS):
        row = _row(trainer)
        sections.setdefault(row.table, []).append((trainer, row))
    for title, (name, dice) in OURS_IN_LATER_TABLES.items():
        again = replace(_row(OURS), table=title, name=name, dice=dice, differs="As in table 1.")
        sections[title].append((OURS, again))
    return sections


def _row(trainer: Trainer) -> Row:
    assert trainer.row is not None
    return trainer.row


def _numbers(rows: Sequence[tuple[Trainer, Row]], counts: Mapping[str, Counts], measured: Sequence[Measured]) -> str:
    cases = sorted({n for _, row in rows for n in row.dice}, reverse=True)
    dice = [f"Dice, {n} cases" for n in cases]
    header = ("row", "trainer", "parameters", "trained", "GMAC", "memory, GB", "s, CPU", "s, GPU", *dice)

    def line(trainer: Trainer, row: Row) -> list[str]:
        name = trainer.__name__
        has = counts[name]
        sizes = [f"{has.parameters:,}", f"{has.trained:,}", f"{has.flops / 2e9:.1f}", f"{has.step_bytes / 1e9:.1f}"]
        seconds = [_seconds(name, measured, on_gpu) for on_gpu in (False, True)]
        printed = [str(row.dice.get(n, UNKNOWN)) for n in cases]
        return [row.name, f"`{name}`", *sizes, *seconds, *printed]

    return _table(header, [line(*each) for each in rows])


def _seconds(name: str, measured: Sequence[Measured], on_gpu: bool) -> str:
    found = [each.seconds[name] for each in measured if each.on_gpu == on_gpu and name in each.seconds]
    return digits(found[-1]) if found else "not measured"


def _differences(rows: Sequence[tuple[Trainer, Row]]) -> str:
    header = ["trainer", "what it is", "differences from its authors' work or from the paper", "source and licence"]
    lines = [[f"`{each.__name__}`", catalogue.first_sentence(each), row.differs, row.source] for each, row in rows]
    sources = {row.source for _, row in rows}
    if len(sources) > 1:
        return _table(header, lines)
    return f"Source and licence of all: {sources.pop()}.\n\n" + _table(header[:-1], [line[:-1] for line in lines])


def _originals() -> str:
    """List the trainers with the settings of a row's authors."""
    lines = [
        f"- `{name}`: {catalogue.first_sentence(trainer)}"
        for name, trainer in catalogue.trainers().items()
        if name.endswith("_original")
    ]
    return "\n".join(["## With the settings of their authors\n", "Same networks and data; in no table:\n", *lines, ""])


def _revisited() -> str:
    """Put what others measured beside the paper's Dice."""
    header = ("network", "Dice, 5 folds", "the paper's Dice, 24 cases", "GPU memory, GB", "hours on an A100")
    trainers = catalogue.trainers()
    lines = [
        (
            each.network,
            f"{each.dice:.2f}",
            str(_row(trainers[each.trainer]).dice.get(24, UNKNOWN)),
            str(each.memory_gb),
            str(each.hours),
        )
        for each in REVISITED
    ]
    return _table(header, lines)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a table whose cells are not padded, so that a new row changes no other line."""
    cells = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in cells)
