"""A raw nnU-Net data set of the user's, divided into training and unseen cases; it is read and never written."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cases import RawCase, check_files, check_names, listed_cases, spacing_file
from .dataset_json import read_description
from .folders import DATASET_NAME

FORM = "a raw nnU-Net data set has dataset.json, imagesTr and labelsTr"


@dataclass(frozen=True)
class RawDataset:
    """The labelled cases of a raw nnU-Net data set."""

    folder: Path
    description: dict[str, Any]  # dataset.json, without its list of files
    training: dict[str, RawCase]
    unseen: dict[str, RawCase]

    @classmethod
    def read(cls, folder: Path) -> "RawDataset":
        """Find the cases; without labelled test cases the last fifth of the training cases is the unseen part.

        Raises:
            ValueError: not a raw nnU-Net data set, fewer than two labelled cases, or a name that nnU-Net cannot take.
            FileNotFoundError: a case lacks a file or a channel.
        """
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; {FORM}")
        if not (folder / "dataset.json").is_file():
            raise ValueError(f"{folder} has no dataset.json; {FORM}")
        description = read_description(folder / "dataset.json")
        if "channel_names" not in description:
            raise ValueError(f"{folder / 'dataset.json'} has no channel_names, which nnU-Net v2 needs")
        ending = description["file_ending"]
        cases = listed_cases(folder, description)
        description.pop("dataset", None)  # the links lie where nnU-Net looks without a list
        training = labelled(cases)
        if len(training) < 2:
            raise ValueError(
                f"{folder} has {len(training)} labelled training cases (*_0000{ending} in imagesTr with *{ending} in "
                "labelsTr); at least 2 are needed, one to train on and one unseen"
            )
        unseen = labelled(listed_cases(folder, description, "Ts"))
        if not unseen:
            last = list(training)[-max(1, len(training) // 5) :]
            unseen = {name: training.pop(name) for name in last}
        check_names([*training, *unseen], ending)
        check_files(training | unseen)
        most = max(len(files.images) for files in (training | unseen).values())
        for case, files in (training | unseen).items():
            if len(files.images) < most:
                raise FileNotFoundError(
                    f"case {case} of {folder} has {len(files.images)} of {most} images that other cases have; every "
                    "case needs one per channel of dataset.json"
                )
        return cls(folder, description, training, unseen)

    @property
    def name(self) -> str:
        """The folder's name if nnU-Net accepts it, else a name made from it."""
        if DATASET_NAME.fullmatch(self.folder.name):
            return self.folder.name
        return f"Dataset700_{re.sub(r'[^A-Za-z0-9]', '', self.folder.name) or 'Data'}"

    def link(self, raw: Path) -> None:
        """Build a raw data set in ``raw`` from links to the files, or from copies where the system has no links."""
        ending = self.description["file_ending"]
        for part, cases in (("Tr", self.training), ("Ts", self.unseen)):
            images, labels = raw / f"images{part}", raw / f"labels{part}"
            images.mkdir(parents=True)
            labels.mkdir()
            for name, case in cases.items():
                for channel, image in enumerate(case.images):
                    link(Path(image), images / f"{name}_{channel:04d}{ending}")
                if spacing := spacing_file(case.images[0], is_image=True):
                    link(Path(spacing), images / f"{name}.json")
                if spacing := spacing_file(case.label):
                    link(Path(spacing), labels / f"{name}.json")
                link(Path(case.label), labels / f"{name}{ending}")
        description = {**self.description, "numTraining": len(self.training)}
        (raw / "dataset.json").write_text(json.dumps(description, indent=2))


def labelled(cases: dict[str, RawCase]) -> dict[str, RawCase]:
    """The cases whose label exists, in the order of their names."""
    return {name: case for name, case in sorted(cases.items()) if os.path.isfile(case.label)}


def link(source: Path, target: Path) -> None:
    """Make ``target`` a link to a file, or a copy of it where the system has no links."""
    try:
        target.symlink_to(source.resolve())
    except OSError:  # Windows, where the user may not make links
        shutil.copyfile(source, target)
