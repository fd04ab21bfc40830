"""Turn the plans nnU-Net made for a dataset into the plans TP-Mamba trains on.

nnU-Net saves the derived plans as the model's ``plans.json``. So stock nnU-Net preprocesses new cases for prediction in
the same way, without this package's help.
"""

import inspect
import math
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from nnunetv2.preprocessing.resampling.utils import recursive_find_resampling_fn_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_tpmamba.config import Orientation, Testbed

from .labels import Labels
from .plans_entries import CHANNELS, OF_CONFIGURATION, OF_DATASET, OF_PLANS, RESAMPLED, STATISTICS, name_in, wrong_entry
from .readers import reader_for

DERIVED_SUFFIX = re.compile(r"_tpmamba(_[\d.x]+mm)?(_-?[\d.]+to-?[\d.]+HU)?(_stored)?$")


def derive_plans(
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    *,
    spacing: Sequence[float] = Testbed.spacing,
    patch_size: Sequence[int] = Testbed.patch_size,
    hu_window: tuple[float, float] = Testbed.hu_window,
    orientation: Orientation = Testbed.orientation,
    batch_size: int = Testbed.batch_size,
    architecture: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Copy nnU-Net's plans, keep one configuration, and give it the paper's spacing, patch size and HU window.

    Images are read as RAS, whatever axes their files have, if nnU-Net has a reader for that: see ``readers``.

    The function reads no file and leaves its arguments as they are. Deriving again with the same values changes
    nothing. ``plans_name`` stays, so that results land beside the baseline's; the data get an identifier of their own,
    so that the baseline's preprocessed data are never touched.

    Example::

        plans = json.loads(Path("nnUNet_preprocessed/Dataset702_HeadNeckCrop/nnUNetPlans.json").read_text())
        dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}}
        derived = derive_plans(plans, "3d_fullres", dataset_json, spacing=(1, 1, 2))
        derived["configurations"]["3d_fullres"]["data_identifier"]  # 'nnUNetPlans_3d_fullres_tpmamba_1x1x2mm'

    Source: Wang et al., MICCAI 2024, section 2.3 (spacing, patch size, window).

    Args:
        plans: as in nnU-Net's plans file.
        configuration: a single-stage 3D configuration of the plans, own or inherited.
        dataset_json: the dataset's description, to check that the plans belong to it and nnU-Net can train its labels.
        spacing: mm, in the image's axis order (slices first).
        patch_size: voxels, in the same order.
        hu_window: HU mapped to 0 and 1 in CT channels, clipped outside; other channels keep the plans' scheme.
        orientation: ``"RAS"``, or ``"stored"`` to keep the plans' reader.
        batch_size: of the whole training, all GPUs together.
        architecture: of the network, in nnU-Net's form; None keeps that of the plans.

    Raises:
        ValueError: the configuration is unknown, 2D or part of a cascade, the plans do not fit the dataset, its
            labels leave out a value, or an entry that is read here is missing or damaged.
    """
    _check_geometry(spacing, patch_size, hu_window)
    for name, entries, needed in (("the plans file", plans, OF_PLANS), ("dataset.json", dataset_json, OF_DATASET)):
        if problem := wrong_entry(entries, needed):
            raise ValueError(
                f"{name} {problem}; restore it, or plan the dataset again with nnUNetv2_plan_and_preprocess"
            )
    Labels.of(dataset_json, plans).check_trainable()
    derived = deepcopy(plans)
    settings = _single_stage_3d_configuration(derived, configuration)
    schemes = settings["normalization_schemes"]
    channels = dataset_json[name_in(dataset_json, CHANNELS)]
    if len(channels) != len(schemes):
        raise ValueError(
            f"dataset.json names {len(channels)} channels ({', '.join(map(str, channels.values()))}), the plans "
            f"{plans.get('plans_name')} were made for {len(schemes)} ({', '.join(schemes)}); plan the dataset again "
            "with nnUNetv2_plan_and_preprocess"
        )

    stock_reader = derived["image_reader_writer"]
    derived["image_reader_writer"] = reader_for(stock_reader, dataset_json, orientation)

    backward = derived["transpose_backward"]
    for key in ("original_median_spacing_after_transp", "original_median_shape_after_transp"):
        derived[key] = [derived[key][axis] for axis in backward]
    # Stock planning puts the axis of the coarsest spacing first; here depth must stay the axis of the slices.
    derived["transpose_forward"] = [0, 1, 2]
    derived["transpose_backward"] = [0, 1, 2]

    low, high = hu_window
    ct_channels = [channel for channel, scheme in enumerate(schemes) if scheme == "CTNormalization"]
    for channel in ct_channels:
        # CTNormalization clips to the percentiles, subtracts the mean and divides by std, which here gives [0, 1].
        window = {"percentile_00_5": low, "percentile_99_5": high, "mean": low, "std": high - low}
        intensity_properties(derived).setdefault(str(channel), {}).update(window)

    for resampled in RESAMPLED:
        resampling_fn = recursive_find_resampling_fn_by_name(settings[f"resampling_fn_{resampled}"])
        if "force_separate_z" in inspect.signature(resampling_fn).parameters:
            # With None, nnU-Net repeats slices more than 3 pixels thick, and depth convolutions would see no change.
            settings[f"resampling_fn_{resampled}_kwargs"]["force_separate_z"] = False

    settings["spacing"] = [float(mm) for mm in spacing]
    settings["patch_size"] = [int(voxels) for voxels in patch_size]
    settings["batch_size"] = int(batch_size)
    settings["median_image_size_in_voxels"] = [
        float(round(voxels * mm / new_mm))
        for voxels, mm, new_mm in zip(
            derived["original_median_shape_after_transp"],
            derived["original_median_spacing_after_transp"],
            spacing,
            strict=True,
        )
    ]
    if architecture is not None:
        settings["architecture"] = deepcopy(architecture)
    stock_identifier = DERIVED_SUFFIX.sub("", settings["data_identifier"])
    suffix = _identifier_suffix(spacing, hu_window if ct_channels else None)
    if derived["image_reader_writer"] != reader_for(stock_reader, dataset_json, Testbed.orientation):
        suffix += f"_{orientation}"
    settings["data_identifier"] = stock_identifier + suffix
    # The other configurations would be wrong under the new order of the axes.
    derived["configurations"] = {configuration: settings}
    return derived


def intensity_properties(plans: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the plans' intensity statistics for each channel, which old plans hold under another name."""
    return plans[name_in(plans, STATISTICS)]


def _check_geometry(spacing: Sequence[float], patch_size: Sequence[int], hu_window: tuple[float, float]) -> None:
    if len(spacing) != 3 or not all(0 < mm < math.inf for mm in spacing):
        raise ValueError(
            f"spacing {tuple(spacing)}: three positive numbers are needed, in mm; set it to e.g. (1, 1, 1)"
        )
    if len(patch_size) != 3 or not all(1 <= voxels < math.inf for voxels in patch_size):
        raise ValueError(
            f"patch size {tuple(patch_size)}: three positive numbers are needed; set it to e.g. (96, 96, 96)"
        )
    if not -math.inf < hu_window[0] < hu_window[1] < math.inf:
        raise ValueError(
            f"HU window {tuple(hu_window)}: the first must be below the second; set it to e.g. (-200, 250)"
        )


def _identifier_suffix(spacing: Sequence[float], hu_window: tuple[float, float] | None) -> str:
    """Return ``_tpmamba`` and whatever differs from the paper's data, so that different data never share a folder."""
    suffix = "_tpmamba"
    if tuple(spacing) != Testbed.spacing:
        sizes = [f"{mm:g}" for mm in spacing]
        suffix += f"_{sizes[0] if len(set(sizes)) == 1 else 'x'.join(sizes)}mm"
    if hu_window is not None and tuple(hu_window) != Testbed.hu_window:
        suffix += "_{:g}to{:g}HU".format(*hu_window)
    return suffix


def _single_stage_3d_configuration(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """Check that TP-Mamba can train the configuration; return it with everything it inherits."""
    known = plans["configurations"]
    usable = [name for name in known if _why_unusable(plans, name) is None]
    instead = f"use {' or '.join(usable)}" if usable else "plan a single-stage 3D configuration, as 3d_fullres is"
    if configuration not in known:
        raise ValueError(
            f"configuration {configuration!r} is not in the plans {plans.get('plans_name')}, which have "
            f"{', '.join(known)}; {instead}"
        )
    problem = _why_unusable(plans, configuration)
    if problem is not None:
        raise ValueError(
            f"configuration {configuration!r} {problem}; TP-Mamba needs a single-stage 3D configuration, {instead}"
        )
    return _resolve(plans, configuration)


def _why_unusable(plans: dict[str, Any], configuration: str) -> str | None:
    """Return why TP-Mamba cannot train the configuration, as the end of a sentence; None if it can."""
    try:
        settings = _resolve(plans, configuration)
    except KeyError as error:
        return f"has no {error.args[0]}"
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:  # nnU-Net does not check plans
        return f"cannot be read ({error})"
    if problem := wrong_entry(settings, OF_CONFIGURATION):
        return problem
    if len(settings["patch_size"]) != 3:
        return "is 2D"
    for stage in ("previous_stage", "next_stage"):
        if settings.get(stage):
            return f"belongs to a cascade ({stage} {settings[stage]!r})"
    return None


def _resolve(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    settings = deepcopy(PlansManager(plans).get_configuration(configuration).configuration)
    settings.pop("inherits_from", None)  # its entries now stand in the configuration itself
    return settings
