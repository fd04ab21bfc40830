"""What a part finds out, written line by line, so that a crash loses only what would have come after it."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.benchmark.task import Result

Value = float | int | str


@dataclass(frozen=True)
class Note:
    """One thing that a part found out.

    Args:
        name: what it is; a later note of the same name replaces an earlier one.
        value: a number or a text.
        unit: of a number.
        passed: for what must hold, whether it does; None for what is only told.
    """

    name: str
    value: Value
    unit: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class Findings:
    """All that a part wrote into its notebook; ``error`` is the exception that ended it, or ""."""

    notes: Sequence[Note] = ()
    results: Sequence[Result] = ()
    error: str = ""

    @property
    def failed_checks(self) -> list[Note]:
        return [note for note in self.notes if note.passed is False]


class Notebook:
    """Where a part writes; every line is on the disk before the next step begins."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def note(self, name: str, value: Value, unit: str = "") -> None:
        """Tell a number or a text."""
        self._write("note", asdict(Note(name, _storable(value), unit)))

    def check(self, name: str, passed: bool, value: Value = "", unit: str = "") -> None:
        """Tell whether something holds that must hold, and what was found."""
        self._write("note", asdict(Note(name, _storable(value), unit, bool(passed))))

    def result(self, result: Result) -> None:
        """Keep a result of the benchmark."""
        self._write("result", asdict(result))

    def error(self, text: str) -> None:
        """Keep the reason why the part ends early."""
        self._write("error", text)

    def _write(self, kind: str, content: object) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: content}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_notebook(file: Path) -> Findings:
    """Read what a part wrote before it ended in whatever way; lines that are cut off or damaged are left out."""
    notes: dict[str, Note] = {}
    results: list[Result] = []
    error = ""
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    for line in text.splitlines():
        try:
            content = json.loads(line)
            if "note" in content:
                note = _only_fields(Note, content["note"])
                notes[note.name] = note
            elif "result" in content:
                results.append(_only_fields(Result, content["result"]))
            elif "error" in content:
                error = str(content["error"])
        except (ValueError, TypeError, AttributeError):
            continue
    return Findings(list(notes.values()), results, error)


def _only_fields(kind: type, values: dict[str, Any]) -> Any:
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})


def _storable(value: Value) -> Value:
    """JSON has no number for what is not finite."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
