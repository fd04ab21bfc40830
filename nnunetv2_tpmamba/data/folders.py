"""Where nnU-Net keeps a dataset, its preprocessed data and its results."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATASET_NAME = re.compile(r"Dataset\d{3}_.+", re.DOTALL)
PLANS = "nnUNetPlans"  # the name that nnU-Net's planner gives by default


def find_preprocessed(dataset: str) -> Path:
    """Return a dataset's folder in nnUNet_preprocessed, which need not exist.

    Args:
        dataset: its name or its id, e.g. ``702``.

    Raises:
        OSError: the environment variable nnUNet_preprocessed is not set.
        ValueError: there is no such dataset, or several have this id.
    """
    from nnunetv2.paths import nnUNet_preprocessed

    if not nnUNet_preprocessed.is_set():
        raise OSError(
            "the environment variable nnUNet_preprocessed is not set; export it as for nnUNetv2_plan_and_preprocess"
        )
    return Path(nnUNet_preprocessed, find_dataset(dataset))


def find_results() -> Path:
    """Return the folder nnUNet_results.

    Raises:
        OSError: the environment variable nnUNet_results is not set.
    """
    from nnunetv2.paths import nnUNet_results

    if not nnUNet_results.is_set():
        raise OSError("the environment variable nnUNet_results is not set; export it as for nnUNetv2_train")
    return Path(nnUNet_results)


def find_model(plans: Mapping[str, Any], trainer: str, configuration: str) -> Path | None:
    """Return nnU-Net's folder of a model, which need not exist; None if nnUNet_results is not set.

    Args:
        plans: name the dataset and themselves.
    """
    from nnunetv2.paths import nnUNet_results
    from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier

    if not nnUNet_results.is_set():
        return None
    model = convert_trainer_plans_config_to_identifier(trainer, plans.get("plans_name"), configuration)
    return Path(nnUNet_results, str(plans.get("dataset_name")), model)


def results_of_repeat(repeat: int) -> Path:
    """Return the folder that takes nnUNet_results' place for the repeats of a study's trainings, counted from 1.

    Raises:
        OSError: the environment variable nnUNet_results is not set.
    """
    return find_results() / place_of_repeat(repeat)


def place_of_repeat(repeat: int) -> Path:
    """Return that folder relative to nnUNet_results: the first repeat is in nnUNet_results itself."""
    return Path() if repeat == 1 else Path(f"repeat_{repeat}")


def find_raw(dataset_name: str) -> Path | None:
    """Return a dataset's folder in nnUNet_raw, which need not exist; None if that is not set or the name is empty."""
    from nnunetv2.paths import nnUNet_raw

    return Path(nnUNet_raw, dataset_name) if nnUNet_raw.is_set() and dataset_name else None


def find_dataset(dataset: str) -> str:
    """Return the name of a dataset that is in nnUNet_preprocessed or nnUNet_raw.

    Args:
        dataset: its name or its id, e.g. ``702``.

    Raises:
        ValueError: there is no such dataset, or several have this id.
    """
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    if DATASET_NAME.fullmatch(dataset):
        places = [Path(folder) for folder in (nnUNet_preprocessed, nnUNet_raw) if folder.is_set()]
        names = [dataset] if any((place / dataset).is_dir() for place in places) else []
    elif dataset.isdigit():
        names = [str(name) for name in find_candidate_datasets(int(dataset))]
    else:
        raise ValueError(f"dataset {dataset!r}: give an id such as 702 or a name such as Dataset702_HeadNeckCrop")
    if not names:
        raise ValueError(
            f"there is no dataset {dataset} in nnUNet_preprocessed ({nnUNet_preprocessed.get()}) or nnUNet_raw "
            f"({nnUNet_raw.get() or 'not set'}); check the id and these variables"
        )
    if len(names) > 1:
        raise ValueError(f"several datasets have the id {dataset}: {', '.join(names)}; give the name of one")
    return names[0]
