"""The folder of one demo: where its data, training, predictions and picture lie, and who may write there."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TRAINER = "nnUNetTrainerTPMamba_demo"
CONFIGURATION = "3d_fullres"
MODEL = f"{TRAINER}__nnUNetPlans__{CONFIGURATION}"  # nnU-Net's folder for it
FOLDER_VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
MARKER = "demo.json"  # says that a folder was made by the demo, and for which data set


@dataclass(frozen=True)
class Workspace:
    """The folder ``out`` of a demo on ``dataset``, with nnU-Net's three folders in it."""

    out: Path
    dataset: str

    @property
    def raw(self) -> Path:
        return self.out / "nnUNet_raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        return self.out / "nnUNet_preprocessed" / self.dataset

    @property
    def predictions(self) -> Path:
        return self.out / "predictions"

    @property
    def picture(self) -> Path:
        return self.out / "demo.png"

    @property
    def log(self) -> Path:
        return self.out / "demo.log"

    @property
    def folders(self) -> Mapping[str, str]:
        """nnU-Net's environment variables for its three folders."""
        return {variable: str(self.out / variable) for variable in FOLDER_VARIABLES}

    def claim(self, data: Path | None, log: Callable[[str], None]) -> None:
        """Make ``out`` the demo's. It must be new or empty, or an earlier demo's, whose work is then removed.

        Args:
            data: the user's data set, if there is one.
            log: is told, before anything is removed, that there is an earlier demo.

        Raises:
            ValueError: ``out`` holds anything else, or one of ``out`` and ``data`` lies inside the other.
        """
        if data is not None:
            check_apart(self.out, data)
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out} is a file; name a folder")
        marker = self.out / MARKER
        if marker.is_file():
            earlier = read_marker(marker)
            log(f"{self.out} holds an earlier demo; its data, training, predictions and picture are replaced.")
            for path in earlier.written:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        elif self.out.is_dir() and any(self.out.iterdir()):
            raise ValueError(f"--out {self.out} is not empty and was not made by this command; name another folder")
        self.out.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps({"made_by": "nnUNetv2_tpmamba demo", "dataset": self.dataset}))

    @property
    def written(self) -> list[Path]:
        """What a demo writes into ``out``; anything else in there belongs to somebody else."""
        model = self.out / "nnUNet_results" / self.dataset / MODEL
        return [self.raw, self.preprocessed, model, self.predictions, self.log, self.picture]

    def write_split(self) -> None:
        """Write one fold with a single validation case, because nnU-Net predicts all of them after the training.

        Raises:
            RuntimeError: nnU-Net planned no 3D configuration.
        """
        plans = json.loads((self.preprocessed / "nnUNetPlans.json").read_text())
        if CONFIGURATION not in plans["configurations"]:
            raise RuntimeError(f"nnU-Net planned no {CONFIGURATION} for these data; TP-Mamba needs 3D images")
        ending = json.loads((self.raw / "dataset.json").read_text())["file_ending"]
        cases = sorted(path.name.removesuffix(ending) for path in (self.raw / "labelsTr").iterdir())
        fold = {"train": cases[:-1] if len(cases) > 2 else cases, "val": cases[-1:]}
        (self.preprocessed / "splits_final.json").write_text(json.dumps([fold], indent=2))


def check_apart(out: Path, data: Path) -> None:
    """Raise ValueError where one folder lies inside the other, so that the demo cannot write among the user's data."""
    inner, outer = out.resolve(), data.resolve()
    if inner == outer:
        raise ValueError(f"--out {out} is --data; name another folder with --out")
    if inner.is_relative_to(outer):
        raise ValueError(f"--out {out} lies inside --data {data}; name another folder with --out")
    if outer.is_relative_to(inner):
        raise ValueError(f"--data {data} lies inside --out {out}; name another folder with --out")


def read_marker(marker: Path) -> Workspace:
    """The earlier demo that wrote this marker.

    Raises:
        ValueError: the marker is not as the demo writes it.
    """
    try:
        dataset = json.loads(marker.read_text())["dataset"]
        named = re.fullmatch(r"Dataset\d{3}_[^/\\]+", dataset)
    except (ValueError, KeyError, TypeError):
        named = None
    if named is None:
        raise ValueError(
            f"{marker} is not as the demo writes it, so {marker.parent} stays as it is; name another folder"
        )
    return Workspace(marker.parent, dataset)
