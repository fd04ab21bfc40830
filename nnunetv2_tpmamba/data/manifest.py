"""What a preprocessed data folder holds, and what it was made from.

Beside the cases, the folder has a ``.tpmamba/manifest.json``. It names the settings the data were made with and, for
each finished case, the size, date and SHA-256 of its raw files, and the size and SHA-256 of each preprocessed file. It
lies in a sub-folder because nnU-Net infers a data folder's format from the files directly inside it.
"""

import json
import os
import re
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunetv2_tpmamba.files import sha256, whole_or_absent

BOOKKEEPING = ".tpmamba"
CASE_ENDINGS = (".b2nd", "_seg.b2nd", ".pkl")  # nnU-Net's preprocessor writes these three files for each case


class RawCase(NamedTuple):
    """The raw files of a training case."""

    images: list[str]
    label: str

    @property
    def paths(self) -> list[str]:
        """The images, then the label."""
        return [*self.images, self.label]


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
        sources: its images, then its label.
        sizes: bytes of each preprocessed file, in the order of ``CASE_ENDINGS``.
        sha256: of each preprocessed file.
    """

    sources: list[SourceFile]
    sizes: list[int]
    sha256: list[str]

    @classmethod
    def of(cls, sources: list[SourceFile], written: list[Path]) -> "CaseRecord":
        """Describe the preprocessed files as they are now."""
        files = [SourceFile.of(str(path)) for path in written]
        return cls(sources, [file.size for file in files], [file.sha256 for file in files])


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


def training_cases(raw_folder: Path, dataset_json: dict[str, Any]) -> dict[str, RawCase]:
    """List the training cases of a raw dataset, as nnU-Net does but without its pool of processes.

    Args:
        raw_folder: the dataset's folder in nnUNet_raw.
        dataset_json: the dataset's description.

    Raises:
        FileNotFoundError: a case lacks its label, or a file that dataset.json lists.
    """
    if "dataset" in dataset_json:
        listed = get_filenames_of_train_images_and_targets(str(raw_folder), deepcopy(dataset_json))
        cases = {case: RawCase(files["images"], files["label"]) for case, files in listed.items()}
    else:
        ending = dataset_json["file_ending"]
        cases = {}
        for image in sorted((raw_folder / "imagesTr").glob(f"*{ending}")):
            if match := re.fullmatch(rf"(.+)_\d{{4}}{re.escape(ending)}", image.name):
                label = raw_folder / "labelsTr" / f"{match[1]}{ending}"
                cases.setdefault(match[1], RawCase([], str(label))).images.append(str(image))
    for case, files in cases.items():
        for path in files.paths:
            if not os.path.isfile(path):
                raise FileNotFoundError(f"case {case}: {path} does not exist; restore it or remove the case")
    return cases


def name_some(names: list[str], most: int = 5) -> str:
    """List the first names and count the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
