"""How far apart the surfaces of a truth and a prediction are, by the package ``surface-distance``."""

import math
from importlib.metadata import version

import numpy as np

HAUSDORFF_PERCENT = 95


def implementation() -> str:
    """The package that measures, and its version."""
    return f"surface-distance {version('surface-distance')}"


def surface_scores(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> dict[str, float]:
    """NSD, HD95 (mm) and ASSD (mm) of two masks; all NaN if both masks are empty, and 0, inf, inf if one is.

    A surface is a set of small polygons between the voxels (of 2D masks, line segments), and each counts by its area in
    mm^2 (by its length in mm).

    NSD: the part of both surfaces whose distance to the other one is at most ``tolerance``. HD95: of either surface the
    distance that 95 % of it do not exceed; the larger of the two. ASSD: the mean distance over both surfaces together;
    as "Metrics Reloaded" defines it, so the larger surface weighs more than in a mean of the two directions' means.

    MONAI measures from and to the centres of the voxels at the edge of each mask, inside it, and counts them all alike:
    its HD95 and ASSD differ from these by about the size of a voxel at most.

    Source: Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy" (JMIR 2021),
    and their package ``surface-distance``; Maier-Hein et al., "Metrics reloaded" (Nature Methods 2024).

    Args:
        spacing: mm.
        tolerance: mm.

    Shape:
        both masks ``(z, y, x)``, or ``(y, x)``.
    """
    from surface_distance import (
        compute_average_surface_distance,
        compute_robust_hausdorff,
        compute_surface_dice_at_tolerance,
        compute_surface_distances,
    )

    if not truth.any() and not prediction.any():
        return dict.fromkeys(("NSD", "HD95", "ASSD"), math.nan)
    if not truth.any() or not prediction.any():  # with NumPy 2 the package fails on an empty mask
        return {"NSD": 0.0, "HD95": math.inf, "ASSD": math.inf}
    distances = compute_surface_distances(truth, prediction, spacing)
    areas = [distances[name].sum() for name in ("surfel_areas_gt", "surfel_areas_pred")]
    return {
        "NSD": float(compute_surface_dice_at_tolerance(distances, tolerance)),
        "HD95": float(compute_robust_hausdorff(distances, HAUSDORFF_PERCENT)),
        "ASSD": float(np.average(compute_average_surface_distance(distances), weights=areas)),
    }
