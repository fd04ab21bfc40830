"""What of a preprocessed data folder is there and current, and what has to be made again."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.files import sha256

from .manifest import CASE_ENDINGS, Case, CaseRecord, Manifest, SourceFile, label_copy, name_some


@dataclass
class Survey:
    """What is there and what has to be done."""

    current: dict[str, CaseRecord] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)  # and why
    unlabelled: list[str] = field(default_factory=list)  # current, but not in gt_segmentations
    removed: list[str] = field(default_factory=list)  # no longer among the raw data
    is_recorded: bool = True  # False: the raw files' dates changed, not their content

    @property
    def is_complete(self) -> bool:
        return bool(self.current) and not (self.outdated or self.unlabelled or self.removed)

    def describe(self) -> str:
        """What is wrong with which cases."""
        problems: dict[str, list[str]] = {}
        for case, reason in self.outdated.items():
            problems.setdefault(reason, []).append(case)
        problems["label copy missing or damaged"] = self.unlabelled
        problems["no longer in the raw data"] = self.removed
        described = [f"{problem}: {name_some(cases)}" for problem, cases in problems.items() if cases]
        return "; ".join(described) or "no case was made"

    @classmethod
    def of(
        cls, folder: Path, settings: dict[str, Any], cases: dict[str, Case], label_ending: str, verify: bool = False
    ) -> "Survey":
        """Compare a data folder with the settings and the raw cases; with itself alone if there are none.

        A raw file of the size and date on record is taken to be the same; of another date, its content is compared. A
        preprocessed file or a label's copy of the size on record is taken to be whole, unless ``verify`` has its
        content compared.

        Args:
            folder: the data folder, which need not exist.
            settings: see ``data_settings``.
            cases: the raw cases by name.
            label_ending: of the labels' file names.

        Raises:
            ValueError: the folder holds data whose origin is unknown, see ``Manifest.read``.
        """
        manifest = Manifest.read(folder) or Manifest(settings, {})
        survey = cls(removed=[case for case in manifest.cases if cases and case not in cases])
        for case in cases or manifest.cases:
            record = manifest.cases.get(case)
            written = [folder / f"{case}{ending}" for ending in CASE_ENDINGS]
            if record is None:
                survey.outdated[case] = "not made yet"
            elif manifest.settings != settings:
                survey.outdated[case] = f"made with other settings ({_difference(manifest.settings, settings)})"
            elif [_size(path) for path in written] != record.sizes:
                survey.outdated[case] = "preprocessed file missing or damaged"
            elif verify and CaseRecord.of([], written).sha256 != record.sha256:
                survey.outdated[case] = "preprocessed file damaged"
            elif (sources := _unchanged(cases[case], record.sources) if cases else record.sources) is None:
                survey.outdated[case] = "image or label changed"
            else:
                survey.is_recorded &= sources == record.sources
                survey.current[case] = replace(record, sources=sources)
                copy, label = label_copy(folder, case, label_ending), sources[-1]
                if _size(copy) != label.size or (verify and sha256(copy) != label.sha256):
                    survey.unlabelled.append(case)
        return survey


def _unchanged(case: Case, recorded: list[SourceFile]) -> list[SourceFile] | None:
    """The raw files with their present dates if their contents are as recorded, else None."""
    if len(case.paths) != len(recorded):
        return None
    sources = []
    for path, known in zip(case.paths, recorded, strict=True):
        stat = os.stat(path)
        is_same = (stat.st_size, stat.st_mtime_ns) == (known.size, known.mtime_ns)
        sources.append(known if is_same else SourceFile.of(path))
    return sources if [source.sha256 for source in sources] == [known.sha256 for known in recorded] else None


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [name for name in now if before.get(name) != now[name]]
    return ", ".join(f"{name} {before.get(name)} instead of {now[name]}" for name in changed)
