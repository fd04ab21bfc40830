"""The report as JSON for programs, and as Markdown for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from nnunetv2_tpmamba.benchmark.report import device_rate, digits, table

from .catalogue import Part
from .notebook import Findings, Note
from .process import FINISHED, Ending

LAST_LINES = 25  # of the output of a part that did not finish
INTRODUCTION = """\
What `nnUNetv2_tpmamba benchmark --gpu-report` found on one machine. Every part ran in a process of its own with a time
limit; one that failed lost nothing of the others. A check is something that must hold. All weights are random and all
images synthetic, so nothing here says how well anything segments. Names of user and machine, and folders, were
replaced; read this file before you send it, with `gpu-report.json` and the folder `logs`."""


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Args:
        part: the part.
        ending: how its process ended; None if it was not started.
        findings: what it wrote into its notebook.
        why_not: why it was not started.
        limit: seconds that it had.
    """

    part: Part
    ending: Ending | None
    findings: Findings
    why_not: str = ""
    limit: float = 0.0

    @property
    def state(self) -> str:
        return self.ending.state if self.ending else "not run"

    @property
    def reason(self) -> str:
        """Why it did not finish; the exception that a part wrote down says more than its exit status."""
        if self.ending is None:
            return self.why_not
        return "" if self.state == FINISHED else self.findings.error or self.ending.reason

    @property
    def checks(self) -> str:
        """How many of its checks passed; "" if it has none."""
        number = sum(note.passed is not None for note in self.findings.notes)
        failed = len(self.findings.failed_checks)
        return f"{number - failed} of {number}" if number else ""

    def in_words(self) -> str:
        """One line for the terminal."""
        seconds = f" after {self.ending.seconds:.0f} s" if self.ending else ""
        checks = f", {self.checks} checks passed" if self.checks else ""
        return f"{self.state}{seconds}{checks}{f': {self.reason}' if self.reason else ''}"


def as_content(outcomes: Sequence[Outcome], facts: Mapping[str, str], complete: bool) -> dict[str, Any]:
    """What the JSON file holds."""
    return {"about": dict(facts), "complete": complete, "parts": [_part_as_content(each) for each in outcomes]}


def _part_as_content(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.part.name,
        "title": outcome.part.title,
        "state": outcome.state,
        "reason": outcome.reason,
        "seconds": None if outcome.ending is None else round(outcome.ending.seconds, 1),
        "limit": round(outcome.limit, 1),
        "notes": [asdict(note) for note in outcome.findings.notes],
        "results": [asdict(result) for result in outcome.findings.results],
    }


def as_markdown(outcomes: Sequence[Outcome], facts: Mapping[str, str], complete: bool) -> str:
    """The same for people."""
    title = "# GPU report" if complete else "# GPU report, not finished"
    lines = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    pieces = [title, INTRODUCTION, lines, _summary(outcomes)]
    for outcome in outcomes:
        pieces += _section(outcome)
    return "\n\n".join(pieces) + "\n"


def _summary(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            each.part.name,
            each.part.title,
            each.state if each.state == FINISHED else f"**{each.state}**",
            "" if each.ending is None else f"{each.ending.seconds:.0f}",
            f"**{each.checks}**" if each.findings.failed_checks else each.checks,
        ]
        for each in outcomes
    ]
    return _table(["part", "what", "state", "s", "checks passed"], rows)


def _section(outcome: Outcome) -> list[str]:
    pieces = [f"## {outcome.part.name}: {outcome.part.title}"]
    if outcome.reason:
        pieces.append(f"**{outcome.state}**: {outcome.reason}")
    if outcome.findings.notes:
        rows = [[note.name, _value(note), _passed(note)] for note in outcome.findings.notes]
        pieces.append(_table(["what", "found", "check"], rows))
    if results := outcome.findings.results:
        pieces.append(table(results, device_rate(results)))
    if outcome.ending is not None and outcome.state != FINISHED:
        said = outcome.ending.output.strip().splitlines()[-LAST_LINES:]
        if said:
            quoted = "\n".join(line.replace("```", "'''")[:300] for line in said)
            pieces.append(f"The last lines that it printed:\n\n```text\n{quoted}\n```")
    return pieces


def _value(note: Note) -> str:
    text = digits(note.value, 4) if isinstance(note.value, float) else str(note.value)
    return f"{text} {note.unit}".strip()


def _passed(note: Note) -> str:
    return "" if note.passed is None else "ok" if note.passed else "**FAILED**"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[" ".join(cell.split()).replace("|", "/") for cell in row] for row in rows]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)
