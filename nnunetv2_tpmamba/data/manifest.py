"""What a preprocessed data folder holds, and what it was made from.

Beside the cases, the folder has a ``.tpmamba/manifest.json``. It names the settings the data were made with and, for
each finished case, the size, date and SHA-256 of its raw files, and the size and SHA-256 of each preprocessed file. It
lies in a sub-folder because nnU-Net infers a data folder's format from the files directly inside it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.files import sha256, whole_or_absent

BOOKKEEPING = ".tpmamba"
CASE_ENDINGS = (".b2nd", "_seg.b2nd", ".pkl")  # nnU-Net's preprocessor writes these three files for each case


@dataclass
class SourceFile:
    """The size, date and content of a raw file when its case was made.

    Args:
        size: bytes.
        mtime_ns: time of the last change, in nanoseconds.
        sha256: of the content.
    """

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: str) -> "SourceFile":
        """Describe the file as it is now."""
        stat = os.stat(path)  # before reading, so that a file that changes meanwhile does not look unchanged later
        return cls(stat.st_size, stat.st_mtime_ns, sha256(Path(path)))


@dataclass
class CaseRecord:
    """What a finished case was made from, and what was written for it.

    Args:
        sources: its files; the label map is the last.
        sizes: bytes of each preprocessed file, in the order of ``CASE_ENDINGS``.
        sha256: of each preprocessed file.
        orientation: in which its images are stored, such as ``"LPS"``; empty where that is not known.
    """

    sources: list[SourceFile]
    sizes: list[int]
    sha256: list[str]
    orientation: str = ""

    @classmethod
    def of(cls, sources: list[SourceFile], written: list[Path], orientation: str = "") -> "CaseRecord":
        """Describe the preprocessed files as they are now."""
        files = [SourceFile.of(str(path)) for path in written]
        return cls(sources, [file.size for file in files], [file.sha256 for file in files], orientation)


@dataclass
class Manifest:
    """The settings a data folder is made with, and the record of each of its cases; None for a case not made yet."""

    settings: dict[str, Any]
    cases: dict[str, CaseRecord | None]

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Read the folder's manifest; return None where there is neither a manifest nor data.

        Raises:
            ValueError: the manifest is damaged, or there are data without one.
        """
        path = folder / BOOKKEEPING / "manifest.json"
        has_data = any(folder.glob("*.b2nd"))  # asked first, because the manifest is written before the data
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            cases = {
                case: record and CaseRecord(**record | {"sources": [SourceFile(**x) for x in record["sources"]]})
                for case, record in content["cases"].items()
            }
            return cls(content["settings"], cases)
        except FileNotFoundError:
            if not has_data:
                return None
            raise ValueError(
                f"{folder} holds data, but no {BOOKKEEPING}/manifest.json that says how they were made; copy that "
                "hidden sub-folder too, or delete the folder, it will be made again"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read ({error!r}); delete {folder}, it will be made again") from error

    def write(self, folder: Path) -> None:
        """Write the manifest in one step, so that a kill leaves the former one."""
        with whole_or_absent(folder / BOOKKEEPING / "manifest.json") as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def name_some(names: list[str], most: int = 5) -> str:
    """List the first names and count the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
