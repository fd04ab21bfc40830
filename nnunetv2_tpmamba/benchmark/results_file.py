"""The results as a file of JSON, and what an older such file says of a new measurement."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from .load import load_per_core
from .task import Result, Task, ratio

COMMAND = "nnUNetv2_tpmamba benchmark --json FILE"
COMPARED = ("sizes", "device", "precision", "processor", "python", "torch", "timm", "nnunetv2", "numba", "cuda")
"""Facts that change times; the processor's also has the numbers of cores and threads."""
LARGEST_LOAD_DIFFERENCE = 0.3  # per core


@dataclass(frozen=True)
class ResultsFile:
    """What a file says.

    Args:
        name: of the file, without its folder.
        about: where and how it was measured.
        results: in the order of the measurement.
    """

    name: str
    about: Mapping[str, str]
    results: Sequence[Result]

    @classmethod
    def read(cls, file: Path, command: str = COMMAND) -> "ResultsFile":
        """Read what :func:`as_json` returned, of this version or an older one.

        Args:
            file: the file.
            command: what writes such files, for the message.

        Raises:
            OSError: it cannot be read.
            ValueError: it is another file.
        """
        known = {field.name for field in fields(Result)}
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            about = {str(name): str(fact) for name, fact in content["about"].items()}
            results = [
                Result(**{name: value for name, value in each.items() if name in known}) for each in content["rows"]
            ]
            for each in results:
                if not all(isinstance(x, int | float | None) for x in (each.seconds, each.peak_bytes)):
                    raise TypeError(f"the seconds and bytes of {each.name} are no numbers")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is not what {command} writes") from error
        return cls(file.name, about, results)

    def check_has_some_of(self, tasks: Collection[Task]) -> None:
        """Raise ``ValueError`` if nothing that is to be measured can be compared with this file."""
        if not {(each.part, each.task) for each in self.results} & {(task.part, task.title) for task in tasks}:
            parts = " ".join(sorted({each.part for each in self.results})) or "nothing"
            raise ValueError(f"--compare {self.name} holds other tasks ({parts}); choose the same ones with --only")

    def beside(self, results: Sequence[Result]) -> list[Result]:
        """Add to new results their ratios to those of the same part, task and name in this file."""
        mine = {(each.part, each.task, each.name): each for each in self.results}

        def compared(result: Result) -> Result:
            old = mine.get((result.part, result.task, result.name))
            if old is None:
                return result
            return replace(
                result,
                old_time_ratio=ratio(result.seconds, old.seconds),
                old_memory_ratio=ratio(result.peak_bytes, old.peak_bytes),
            )

        return [compared(result) for result in results]

    def warnings(self, about: Mapping[str, str]) -> list[str]:
        """Say in what a new measurement differs from this one, apart from the code that is measured."""
        found = [
            f"{name} is {about.get(name, 'unknown')} here, and {self.about.get(name, 'unknown')} in {self.name}"
            for name in COMPARED
            if about.get(name) != self.about.get(name)
        ]
        here, there = load_per_core(about), load_per_core(self.about)
        if there is None:
            found.append(f"{self.name} does not say how busy the machine was")
        elif here is not None and abs(here - there) > LARGEST_LOAD_DIFFERENCE:
            found.append(f"the load per core is {here:.2f} here, and {there:.2f} in {self.name}")
        return found


def as_json(results: Sequence[Result], facts: Mapping[str, str], complete: bool, warnings: Sequence[str] = ()) -> str:
    """Write ``{"about": ..., "warnings": [...], "complete": ..., "rows": [...]}``; each row is a :class:`Result`."""
    content = {
        "about": facts,
        "warnings": list(warnings),
        "complete": complete,
        "rows": [asdict(result) for result in results],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
