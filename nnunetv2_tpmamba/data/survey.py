"""Which cases of a preprocessed data folder are complete and current, and which have to be made again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.files import sha256

from .cases import RawCase
from .manifest import CASE_ENDINGS, CaseRecord, Manifest, SourceFile, name_some
from .planned_data import PlannedData


@dataclass
class Survey:
    """What a data folder holds, and what has to be done to it.

    Args:
        current: records of the cases that are up to date, with the present dates of their raw files.
        outdated: for each case to be made, the reason.
        unlabelled: cases that are up to date, but whose label is not copied to gt_segmentations.
        removed: cases in the folder that are no longer among the raw data.
        is_recorded: whether the manifest has the raw files' present dates.
    """

    current: dict[str, CaseRecord] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    is_recorded: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether a training could start."""
        return bool(self.current) and not (self.outdated or self.unlabelled or self.removed)

    def describe(self) -> str:
        """Say what is wrong with which cases."""
        problems: dict[str, list[str]] = {}
        for case, reason in self.outdated.items():
            problems.setdefault(reason, []).append(case)
        problems["label copy missing or damaged"] = self.unlabelled
        problems["no longer in the raw data"] = self.removed
        described = [f"{problem}: {name_some(cases)}" for problem, cases in problems.items() if cases]
        return "; ".join(described) or "no case was made"

    @classmethod
    def of(cls, data: PlannedData, cases: Mapping[str, RawCase], verify: bool = False) -> "Survey":
        """Compare what the data folder holds with the settings and the raw cases.

        A raw file of the size and date on record is taken to be the same; of another date, its content is compared. A
        preprocessed file or a label's copy of the size on record is taken to be whole, unless ``verify`` has its
        content compared.

        Args:
            data: the data, whose folder need not exist.
            cases: the raw cases by name; if there are none, the folder is only compared with its manifest.
            verify: read every preprocessed file and every copy of a label.

        Raises:
            ValueError: the folder holds data whose origin is unknown, see ``Manifest.read``.
        """
        folder, settings = data.folder, data.settings
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
                copy, label = data.label_copy(case), sources[-1]
                others = data.label_copies(case, cases[case].label).values() if cases else ()
                if _size(copy) != label.size or (verify and sha256(copy) != label.sha256) or None in map(_size, others):
                    survey.unlabelled.append(case)
        return survey


def _unchanged(case: RawCase, recorded: list[SourceFile]) -> list[SourceFile] | None:
    """Return the raw files with their present dates if their contents are as recorded, else None."""
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
