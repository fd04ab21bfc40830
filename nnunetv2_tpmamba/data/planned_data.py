"""The preprocessed data that derived plans describe: their folder, their settings, and how a user makes them."""

import json
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cases import TRUTH, RawCase, spacing_file, training_cases
from .manifest import Manifest
from .plans import intensity_properties

INTENSITIES_USED = {  # the statistics each of nnU-Net's normalization schemes reads; any other scheme may read all
    "CTNormalization": ("percentile_00_5", "percentile_99_5", "mean", "std"),
    "ZScoreNormalization": (),
    "NoNormalization": (),
    "RescaleTo01Normalization": (),
    "RGBTo01Normalization": (),
}


@dataclass(frozen=True)
class PlannedData:
    """The preprocessed training cases of one configuration of derived plans, whether they exist yet or not.

    Args:
        plans: derived plans, see ``plans.derive_plans``.
        configuration: the name of the configuration in these plans.
        dataset_json: the dataset's description.
        raw_folder: the dataset's folder in nnUNet_raw, None if nnUNet_raw is not set.
        preprocessed_folder: the dataset's folder in nnUNet_preprocessed.
    """

    plans: dict[str, Any]
    configuration: str
    dataset_json: dict[str, Any]
    raw_folder: Path | None
    preprocessed_folder: Path

    @property
    def folder(self) -> Path:
        """The data folder, which nnU-Net's training reads."""
        return self.preprocessed_folder / self._chosen["data_identifier"]

    @property
    def label_ending(self) -> str:
        """The ending of the raw files' names, and so of the labels' copies."""
        return self.dataset_json["file_ending"]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the content of the preprocessed files; the patch size, for example, does not."""
        chosen = self._chosen
        labels = self.dataset_json["labels"]
        settings = {
            "preprocessor": chosen["preprocessor_name"],
            "reader": self.plans["image_reader_writer"],
            "transpose": self.plans["transpose_forward"],
            "spacing": chosen["spacing"],
            "normalization": chosen["normalization_schemes"],
            "intensities": [
                self._intensities(str(channel), scheme)
                for channel, scheme in enumerate(chosen["normalization_schemes"])
            ],
            "mask for normalization": chosen["use_mask_for_norm"],
            "image resampling": [chosen["resampling_fn_data"], chosen["resampling_fn_data_kwargs"]],
            "label resampling": [chosen["resampling_fn_seg"], chosen["resampling_fn_seg_kwargs"]],
            "labels": [list(labels.values()), labels.get("ignore")],  # nnU-Net stores where each label is
        }
        return json.loads(json.dumps(settings))  # as the manifest will give them back

    @property
    def how_to_make(self) -> str:
        """What a user does to make the data, as part of a sentence."""
        if not self.folder.name.endswith("_tpmamba"):
            return "start this training"  # its spacing or HU window is its own, and the command does not know them
        options = ["-d", self.plans["dataset_name"], "-c", self.configuration, "-p", self.plans["plans_name"]]
        return f"run `nnUNetv2_tpmamba preprocess {shlex.join(options)}`"

    def raw_cases(self) -> dict[str, RawCase]:
        """List the raw training cases; there are none where the raw data are absent.

        Raises:
            FileNotFoundError: a case lacks its label, or a file that dataset.json lists.
            ValueError: a case has a name that nnU-Net cannot take, or a file is none.
        """
        if self.raw_folder is None or not self.raw_folder.is_dir():
            return {}
        return training_cases(self.raw_folder, self.dataset_json)

    def cases(self) -> Collection[str]:
        """The names of the training cases: the raw ones, or where these are absent, those that were made.

        Raises:
            ValueError: the data folder is not as this package makes it.
        """
        manifest = None if (raw := self.raw_cases()) else Manifest.read(self.folder)
        return manifest.cases if manifest is not None else raw

    def label_copy(self, case: str) -> Path:
        """Where nnU-Net's validation looks for the case's label: beside the data folder."""
        return self.preprocessed_folder / TRUTH / f"{case}{self.label_ending}"

    def label_copies(self, case: str, label: str) -> dict[str, Path]:
        """Each raw file that a label map is read from, with the place of its copy."""
        copy, spacing = self.label_copy(case), spacing_file(label)
        return ({spacing: copy.with_suffix(".json")} if spacing else {}) | {label: copy}

    @property
    def _chosen(self) -> dict[str, Any]:
        return self.plans["configurations"][self.configuration]

    def _intensities(self, channel: str, scheme: str) -> dict[str, float]:
        """Only the statistics that are used, because the others change with every new case."""
        statistics = intensity_properties(self.plans)
        return {name: statistics[channel][name] for name in INTENSITIES_USED.get(scheme, statistics.get(channel, {}))}
