"""A raw nnU-Net data set of the user's, divided into training and unseen cases; it is read and never written."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORM = "a raw nnU-Net data set has dataset.json, imagesTr and labelsTr"


@dataclass(frozen=True)
class LabelledCase:
    """The files of one case."""

    images: list[Path]  # one per channel
    label: Path


@dataclass(frozen=True)
class RawDataset:
    """The labelled cases of a raw nnU-Net data set."""

    folder: Path
    description: dict[str, Any]  # dataset.json, without its list of files
    training: dict[str, LabelledCase]
    unseen: dict[str, LabelledCase]

    @classmethod
    def read(cls, folder: Path) -> "RawDataset":
        """Find the cases; without labelled test cases the last fifth of the training cases is the unseen part.

        Raises:
            ValueError: not a raw nnU-Net data set, or fewer than two labelled cases.
        """
        description = read_description(folder)
        ending, channels = description["file_ending"], len(description["channel_names"])
        listed = description.pop("dataset", None)
        if listed is None:
            cases = cases_in(folder, "Tr", ending, channels)
        else:  # nnU-Net's way to name files that lie elsewhere
            cases = {
                name: LabelledCase(
                    [located(folder, image) for image in files["images"]], located(folder, files["label"])
                )
                for name, files in listed.items()
            }
        training = labelled(cases)
        if len(training) < 2:
            raise ValueError(
                f"{folder} has {len(training)} labelled training cases (*_0000{ending} in imagesTr with *{ending} in "
                "labelsTr); at least 2 are needed, one to train on and one unseen"
            )
        unseen = labelled(cases_in(folder, "Ts", ending, channels))
        if not unseen:
            last = list(training)[-max(1, len(training) // 5) :]
            unseen = {name: training.pop(name) for name in last}
        return cls(folder, description, training, unseen)

    @property
    def name(self) -> str:
        """The folder's name if nnU-Net accepts it, else a name made from it."""
        if re.fullmatch(r"Dataset\d{3}_.+", self.folder.name):
            return self.folder.name
        return f"Dataset700_{re.sub(r'[^A-Za-z0-9]', '', self.folder.name) or 'Data'}"

    def link(self, raw: Path) -> None:
        """Build a raw data set in ``raw`` from links to the files, or from copies where the system has no links.

        Raises:
            FileNotFoundError: a case lacks a channel.
        """
        ending = self.description["file_ending"]
        for part, cases in (("Tr", self.training), ("Ts", self.unseen)):
            images, labels = raw / f"images{part}", raw / f"labels{part}"
            images.mkdir(parents=True)
            labels.mkdir()
            for name, case in cases.items():
                for channel, image in enumerate(case.images):
                    link(image, images / f"{name}_{channel:04d}{ending}")
                link(case.label, labels / f"{name}{ending}")
        description = {**self.description, "numTraining": len(self.training)}
        (raw / "dataset.json").write_text(json.dumps(description, indent=2))


def read_description(folder: Path) -> dict[str, Any]:
    """The content of ``dataset.json``.

    Raises:
        ValueError: there is no such file, or it lacks an entry that nnU-Net needs.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; {FORM}")
    file = folder / "dataset.json"
    if not file.is_file():
        raise ValueError(f"{folder} has no dataset.json; {FORM}")
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    needed = ("channel_names", "labels", "file_ending")
    missing = [key for key in needed if key not in description]
    if missing:
        raise ValueError(f"{file} has no {' and no '.join(missing)}; nnU-Net v2 needs {', '.join(needed)}")
    return description


def cases_in(folder: Path, part: str, ending: str, channels: int) -> dict[str, LabelledCase]:
    """The cases of ``imagesTr`` (part ``Tr``) or ``imagesTs`` (``Ts``)."""
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    first_channel = f"_0000{ending}"
    names = [path.name.removesuffix(first_channel) for path in images.glob(f"*{first_channel}")]
    return {
        name: LabelledCase(
            [images / f"{name}_{channel:04d}{ending}" for channel in range(channels)], labels / f"{name}{ending}"
        )
        for name in names
    }


def labelled(cases: dict[str, LabelledCase]) -> dict[str, LabelledCase]:
    """The cases whose label exists, in the order of their names."""
    return {name: case for name, case in sorted(cases.items()) if case.label.is_file()}


def located(folder: Path, listed: str) -> Path:
    """A path of ``dataset.json``: absolute, or relative to its folder; it may hold environment variables."""
    return folder / os.path.expandvars(listed)


def link(source: Path, target: Path) -> None:
    """Make ``target`` a link to a file, or a copy of it where the system has no links."""
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; every case needs one image per channel of dataset.json")
    try:
        target.symlink_to(source.resolve())
    except OSError:  # Windows, where the user may not make links
        shutil.copyfile(source, target)
