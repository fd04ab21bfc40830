"""A synthetic abdominal CT with six labelled organs, and a raw nnU-Net data set made of many of them.

The anatomy is drawn from signed distances in mm on the scan's own grid, so thick slices lose detail as in a scanner.
Reference coordinates are DICOM's for an adult lying on the back, in mm: x to the patient's left, y to the back, z to
the head, the origin in front of the first lumbar vertebra. Every scan is another patient: size, pose, organs, a smooth
deformation, contrast phase, noise and voxel spacing are drawn from the seed. Voxels are about twice as large as in a
clinical scan, to keep a demonstration short.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter

from .anatomy import LABELS, paint_patient
from .canvas import DEFORMATION_MM, Array, Canvas, Point, rotation
from .patient import Patient
from .trunk import paint_table

DEFORMATION_WAVE_MM = 55.0  # distance of the deformation's control points


@dataclass(frozen=True)
class Scan:
    """A CT and its organs; arrays and ``spacing`` are (z, y, x), ``origin`` is the first voxel's (x, y, z) in mm."""

    image: np.ndarray  # int16, HU
    label: np.ndarray  # uint8, values of LABELS
    spacing: Point
    origin: Point


def abdomen(seed: int) -> Scan:
    """Draw one patient's contrast-enhanced abdomen, from the diaphragm to below the kidneys.

    Args:
        seed: the patient; the same seed gives the same scan.
    """
    rng = np.random.default_rng([2024, seed])
    patient = Patient.drawn(rng)

    between, in_plane = round(rng.uniform(2.7, 5.0), 3), round(rng.uniform(1.45, 1.85), 3)
    shift_x, shift_y = rng.uniform(-8, 8, 2)
    half_x, half_y = np.multiply(patient.skin_radii, patient.size[:2])
    axes = [
        centred_axis(rng.uniform(165, 215), between, center=rng.uniform(4, 18)),
        centred_axis(2 * half_y + rng.uniform(50, 80), in_plane, center=shift_y + 18),
        centred_axis(2 * half_x + rng.uniform(20, 50), in_plane, center=shift_x),
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    x, y = x - np.float32(shift_x), y - np.float32(shift_y)
    turned = rotation(tuple(rng.normal(0, (1.5, 1.5, 2.5)))).T
    reference_x, reference_y, reference_z = (
        (row[0] * x + row[1] * y + row[2] * z + DEFORMATION_MM * smooth_field(rng, axes, DEFORMATION_WAVE_MM)) / scale
        for row, scale in zip(turned, patient.size, strict=True)
    )
    shape = tuple(len(axis) for axis in axes)
    canvas = Canvas(
        reference_x,
        reference_y,
        reference_z,
        hu=np.full(shape, -1000, np.float32),
        label=np.zeros(shape, np.uint8),
        texture=smooth_field(rng, axes, wave=16),
        lumps=1.5 * smooth_field(rng, axes, wave=35),
    )
    paint_table(canvas, x, y, half_y)
    paint_patient(canvas, patient)

    blurred = gaussian_filter(canvas.hu, (0.45, 0.6, 0.6))  # voxels: slice profile and resolution of the scanner
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0.3, 0.7, 0.7))
    noise *= np.float32(rng.uniform(10, 20)) / noise.std()
    image = np.clip(np.rint(blurred + noise), -1024, 3071).astype(np.int16)
    table_position = float(rng.integers(-900, -300))  # scanners count z from an arbitrary position
    origin = (float(axes[2][0]), float(axes[1][0]), float(axes[0][0]) + table_position)
    return Scan(image, canvas.label, (between, in_plane, in_plane), origin)


def smooth_field(rng: np.random.Generator, axes: list[Array], wave: float) -> Array:
    """A cubic spline of about unit variance on the grid of ``axes`` (mm), its random control points ``wave`` apart."""
    weights = []
    for axis in axes:
        where = (axis - axis[0]) / np.float32(wave)
        knots = np.arange(-4, where[-1] + 5)
        weights.append(BSpline.design_matrix(where, knots, 3).toarray().astype(np.float32))
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for weight in weights:  # replaces the first axis, of control points, by a last one, of voxels
        field = np.tensordot(field, weight, axes=(0, 1))
    return field / np.float32(0.48**1.5)  # a cubic spline keeps 0.48 of the variance along each axis


def centred_axis(extent: float, step: float, center: float) -> Array:
    """Voxel centres every ``step`` mm over ``extent`` mm."""
    count = round(extent / step)
    return ((np.arange(count) - (count - 1) / 2) * step + center).astype(np.float32)


def write_dataset(
    folder: Path,
    num_training: int,
    num_test: int,
    seed: int = 0,
    on_case: Callable[[str], None] = lambda _: None,
    scan_of: Callable[[int], Scan] = abdomen,
) -> None:
    """Write a raw nnU-Net data set: ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs`` and ``dataset.json``.

    Args:
        folder: ``.../nnUNet_raw/DatasetXXX_Name``.
        seed: the first patient; the others follow.
        on_case: called with the name of each case that has been written.
        scan_of: makes the scan of a patient.
    """
    for part, patients in (
        ("Tr", range(seed, seed + num_training)),
        ("Ts", range(seed + num_training, seed + num_training + num_test)),
    ):
        for kind in ("images", "labels"):
            (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
        for patient in patients:
            name = f"phantom_{patient:03d}"
            scan = scan_of(patient)
            write_volume(scan.image, scan, folder / f"images{part}" / f"{name}_0000.nii.gz")
            write_volume(scan.label, scan, folder / f"labels{part}" / f"{name}.nii.gz")
            on_case(name)
    description = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": num_training,
        "file_ending": ".nii.gz",
        "description": "synthetic abdominal CT, see nnunetv2_tpmamba.demo.phantom",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2))


def write_volume(volume: np.ndarray, scan: Scan, path: Path) -> None:
    """Write an image or a label map with the scan's spacing and origin."""
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing(scan.spacing[::-1])
    image.SetOrigin(scan.origin)
    SimpleITK.WriteImage(image, str(path), useCompression=True)
