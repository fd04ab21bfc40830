"""A synthetic abdominal CT with six labelled organs, and a raw nnU-Net data set made of many of them.

The anatomy is drawn from signed distances in mm on the scan's own grid, so thick slices lose detail as in a scanner.
Reference coordinates are DICOM's for an adult lying on the back, in mm: x to the patient's left, y to the back, z to
the head, the origin in front of the first lumbar vertebra. Every scan is another patient: size, pose, organs, a smooth
deformation, contrast phase, noise and voxel spacing are drawn from the seed. Voxels are about twice as large as in a
clinical scan, to keep a demonstration short.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import SimpleITK
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter

LABELS = {
    "background": 0,
    "liver": 1,
    "spleen": 2,
    "kidney_right": 3,
    "kidney_left": 4,
    "stomach": 5,
    "aorta": 6,
}
DEFORMATION_MM = 4.0  # standard deviation, along each axis, of what makes two patients differ beyond size and pose
DEFORMATION_WAVE_MM = 55.0  # distance of its control points
EDGE_MM = 1.6  # width of a tissue border before the scanner blurs it
RIGHT, LEFT = -1, 1  # sign of x

Array = np.ndarray  # float32
Point = tuple[float, float, float]


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
    paint_trunk(canvas, patient)
    paint_bowel(canvas, patient)
    paint_stomach(canvas, patient)
    paint_liver(canvas, patient)
    paint_spleen(canvas, patient)
    paint_muscles(canvas)
    for side in (RIGHT, LEFT):
        paint_kidney(canvas, patient, side)
    paint_spine(canvas, patient)
    paint_vessels(canvas, patient)

    blurred = gaussian_filter(canvas.hu, (0.45, 0.6, 0.6))  # voxels: slice profile and resolution of the scanner
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0.3, 0.7, 0.7))
    noise *= np.float32(rng.uniform(10, 20)) / noise.std()
    image = np.clip(np.rint(blurred + noise), -1024, 3071).astype(np.int16)
    table_position = float(rng.integers(-900, -300))  # scanners count z from anywhere
    origin = (float(axes[2][0]), float(axes[1][0]), float(axes[0][0]) + table_position)
    return Scan(image, canvas.label, (between, in_plane, in_plane), origin)


@dataclass(frozen=True)
class Patient:
    """What one patient has of their own."""

    rng: np.random.Generator
    size: Point  # of the trunk along x, y, z, 1 = reference anatomy
    fat: float  # mm under the skin
    contrast: float  # contrast phase: moves all enhancing organs together, unit variance

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Patient":
        x, y, z = np.clip(rng.normal(1.0, 0.05, 3), 0.9, 1.1)
        return cls(rng, (float(x), float(y), float(z)), fat=rng.uniform(9, 32), contrast=rng.normal())

    @property
    def skin_radii(self) -> tuple[float, float]:
        return 141 + self.fat, 103 + 0.7 * self.fat

    def near(self, center: Point, deviation: float = 3.0) -> Point:
        """A position around ``center``, mm."""
        x, y, z = self.rng.normal(center, deviation)
        return float(x), float(y), float(z)

    def about(self, radii: Point) -> Point:
        """Radii like ``radii``, mm."""
        x, y, z = np.multiply(radii, np.clip(self.rng.normal(1, 0.06, 3), 0.87, 1.13))
        return float(x), float(y), float(z)

    def tilted(self, degrees: Point) -> Point:
        """A pose around ``degrees``."""
        return self.near(degrees, deviation=5.0)

    def enhanced(self, hu: float, by_phase: float, deviation: float) -> float:
        """HU of an organ that takes up contrast medium."""
        return hu + by_phase * float(np.clip(self.contrast, -2, 2)) + float(self.rng.normal(0, deviation))


@dataclass(frozen=True)
class Canvas:
    """What is painted on (``hu``, ``label``) and, for each voxel, where it lies in the reference anatomy (mm)."""

    x: Array
    y: Array
    z: Array
    hu: Array
    label: np.ndarray
    texture: Array  # unit variance, mottles tissue
    lumps: Array  # mm, roughens surfaces

    def around(self, low: Point, high: Point) -> "Canvas":
        """The part that can hold a shape in the box from ``low`` to ``high``; painting it paints the whole."""
        slack = 4 * DEFORMATION_MM + 12  # the patient's pose and deformation bend the box
        middle = tuple(n // 2 for n in self.x.shape)
        lines = (
            self.z[:, middle[1], middle[2]],
            self.y[middle[0], :, middle[2]],
            self.x[middle[0], middle[1], :],
        )
        box = []
        for line, a, b in zip(lines, low[::-1], high[::-1], strict=True):
            inside = np.flatnonzero((line > a - slack) & (line < b + slack))
            box.append(slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 0))
        return Canvas(*(getattr(self, field.name)[tuple(box)] for field in fields(self)))

    def paint(self, distance: Array, hu: float | Array, label: int = 0) -> None:
        """Fill where ``distance`` (mm, negative inside) says so, over a soft border."""
        cover = np.clip(0.5 - distance / np.float32(EDGE_MM), 0, 1)
        self.hu[...] += cover * (np.asarray(hu, np.float32) - self.hu)
        self.label[distance < 0] = label

    def ellipsoid(self, center: Point, radii: Point, tilt: Point = (0, 0, 0)) -> Array:
        """Distance to an ellipsoid turned by ``tilt`` degrees about x, then y, then z."""
        offset = [axis - np.float32(c) for axis, c in zip((self.x, self.y, self.z), center, strict=True)]
        if any(tilt):
            offset = [row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2] for row in rotation(tilt).T]
        return ellipse_distance(offset, radii)

    def column(self, center_x: Array | float, center_y: Array | float, radius_x: float, radius_y: float) -> Array:
        """Distance to an elliptic column along z, whose centre may move with z."""
        return ellipse_distance([self.x - center_x, self.y - center_y], (radius_x, radius_y))

    def tube(self, points: list[Point], radii: list[float]) -> Array:
        """Distance to a tube through ``points`` whose radius goes through ``radii``."""
        pieces = []
        for a, b, radius_a, radius_b in zip(points, points[1:], radii, radii[1:], strict=False):
            axis = np.subtract(b, a).astype(np.float32)
            dx, dy, dz = (p - np.float32(c) for p, c in zip((self.x, self.y, self.z), a, strict=True))
            along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / (axis @ axis), 0, 1)
            across = np.sqrt((dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2)
            pieces.append(across - (np.float32(radius_a) + along * np.float32(radius_b - radius_a)))
        return union(*pieces)


def ellipse_distance(offset: list[Array], radii: tuple[float, ...]) -> Array:
    """Distance to the ellipse or ellipsoid with half axes ``radii``, exact to first order at its surface."""
    scaled = [o / np.float32(r) for o, r in zip(offset, radii, strict=True)]
    radius = np.sqrt(sum(s**2 for s in scaled))
    slope = np.sqrt(sum((s / np.float32(r)) ** 2 for s, r in zip(scaled, radii, strict=True)))
    return radius * (radius - 1) / (slope + np.float32(1e-6))


def union(first: Array, *others: Array, blend: float = 8.0) -> Array:
    """Distance to all shapes together, with a fillet of about ``blend`` mm where they meet."""
    for other in others:
        overlap = np.maximum(np.float32(blend) - np.abs(first - other), 0)
        first = np.minimum(first, other) - overlap**2 / np.float32(4 * blend)
    return first


def rotation(degrees: Point) -> Array:
    """Rotation matrix about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def smooth_field(rng: np.random.Generator, axes: list[Array], wave: float) -> Array:
    """A cubic spline of about unit variance on the grid of ``axes`` (mm), its random control points ``wave`` apart."""
    weights = []
    for axis in axes:
        where = (axis - axis[0]) / np.float32(wave)
        knots = np.arange(-4, where[-1] + 5)
        weights.append(BSpline.design_matrix(where, knots, 3).toarray().astype(np.float32))
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for weight in weights:  # each turn takes the control points' first axis and appends the grid's
        field = np.tensordot(field, weight, axes=(0, 1))
    return field / np.float32(0.48**1.5)  # a cubic spline keeps 0.48 of the variance along each axis


def centred_axis(extent: float, step: float, center: float) -> Array:
    """Voxel centres every ``step`` mm over ``extent`` mm."""
    count = round(extent / step)
    return ((np.arange(count) - (count - 1) / 2) * step + center).astype(np.float32)


def paint_table(canvas: Canvas, x: Array, y: Array, half_depth: float) -> None:
    """The curved table, in the scanner's coordinates: it does not bend with the patient."""
    top = y - (np.float32(half_depth + 14) - x**2 / 1200) + 0 * canvas.z
    foam = np.maximum(-top, top - 26)
    canvas.paint(foam, -900)
    canvas.paint(np.abs(foam) - 1.5, 60)


def paint_trunk(canvas: Canvas, patient: Patient) -> None:
    """Skin, fat, muscle wall, ribs, lung bases and heart: all that surrounds the cavity, and the fat in it."""
    x, y, z = canvas.x, canvas.y, canvas.z
    skin = canvas.column(0, -1, *patient.skin_radii)
    wall = canvas.column(0, -5, 139, 100)
    cavity = canvas.column(0, -9, 124, 86)
    between = 0.5 * (wall + cavity)  # 0 half-way through the muscle wall
    canvas.paint(skin, 0)
    canvas.paint(skin + 2.5, -105 + 6 * canvas.texture)
    canvas.paint(wall, 55 + 7 * canvas.texture)
    canvas.paint(np.maximum(np.abs(between + 1) - 1.2, z - 25), -80)  # fat between the muscle layers of the flank

    rib = np.abs(np.mod(z - 0.55 * y, 31) - 15.5) - 5.5  # descends to the front
    costal_margin = -z - 40 - 0.9 * y
    ribs = np.maximum(np.maximum(np.abs(between) - 4, rib), np.maximum(costal_margin, 16 - np.abs(x)))
    canvas.paint(ribs, 300)
    canvas.paint(np.maximum(ribs, -ribs - 2), patient.rng.uniform(550, 800))

    canvas.paint(cavity, -100 + 9 * canvas.texture)
    right_dome = 112 - ((x + 62) ** 2 + (y + 12) ** 2) * np.float32(0.0055)
    left_dome = 100 - ((x - 62) ** 2 + (y + 5) ** 2) * np.float32(0.0055)
    lungs = np.maximum(cavity + 2, 0.8 * (np.maximum(right_dome, left_dome) - z))
    canvas.paint(lungs - 3.5, 50)  # the diaphragm
    canvas.paint(lungs, -850 + 25 * canvas.texture)
    canvas.paint(canvas.ellipsoid((18, -38, 138), (62, 48, 46)), patient.enhanced(130, 12, 6))


def paint_muscles(canvas: Canvas) -> None:
    """The muscles beside the spine."""
    for side in (RIGHT, LEFT):
        back = canvas.around((side * 40 - 35, 45, -200), (side * 40 + 35, 100, 200))
        back.paint(np.maximum(back.column(side * 37, 74, 31, 22), 8 - side * back.x), 48 + 12 * back.texture)
        psoas = canvas.around((side * 40 - 40, 10, -200), (side * 40 + 40, 80, 30))
        lean = side * (31 - 0.09 * np.minimum(psoas.z, 30))
        psoas.paint(np.maximum(psoas.column(lean, 43, 17, 20), psoas.z - 25), 58)


def paint_spine(canvas: Canvas, patient: Patient) -> None:
    spine = canvas.around((-45, 15, -200), (45, 105, 200))
    x, y, z = spine.x, spine.y, spine.z
    level = np.abs(np.mod(z + 13, 33) - 16.5)  # 0 in the middle of a vertebra, 16.5 in the middle of a disc
    body = spine.column(0, 43, 22, 17)
    arch = np.maximum(spine.column(0, 62, 17, 13), level - 11)
    spinous = np.maximum(np.maximum(np.abs(x) - 3.5, np.abs(y - 78) - 16), level - 9)
    transverse = np.maximum(np.maximum(np.abs(x) - 38, np.abs(y - 62) - 4), level - 5)
    spine.paint(body, 85)  # discs
    for bone, spongy in (
        (np.maximum(body, level - 12.5), patient.rng.uniform(170, 260)),
        (np.minimum(np.minimum(arch, spinous), transverse), 400.0),
    ):
        spine.paint(bone, spongy)
        spine.paint(np.maximum(bone, -bone - 2), patient.rng.uniform(450, 700))
    spine.paint(spine.column(0, 64, 9.5, 8), 35)  # canal


def paint_bowel(canvas: Canvas, patient: Patient) -> None:
    """Colon, small bowel and pancreas: unlabelled, and as bright as the organs."""
    rng = patient.rng
    wall = patient.enhanced(75, 6, 6)
    colon = [
        [(-96, 22, -130), (-98, 20, -80), (-92, 5, -42)],
        [(-92, 5, -42), (-50, -62, -38), (0, -70, -52), (55, -60, -30), (94, 5, 0)],
        [(94, 5, 0), (103, 28, -45), (100, 30, -130)],
    ]
    small = [
        [patient.near((rng.uniform(-70, 75), rng.uniform(-62, 8), rng.uniform(-105, -35)), 1.0) for _ in range(3)]
        for _ in range(12)
    ]
    for points, radius in [(p, 12.0) for p in small] + [(p, 19.0) for p in colon]:
        placed = [patient.near(p, 4) for p in points]
        low, high = np.min(placed, axis=0) - radius - 5, np.max(placed, axis=0) + radius + 5
        part = canvas.around(tuple(low), tuple(high))
        loop = part.tube(placed, list(radius * rng.uniform(0.85, 1.15, len(placed)))) + part.lumps
        gas_level = placed[1][1] - radius * rng.uniform(-0.3, 1) if rng.random() < 0.4 else None
        paint_hollow(part, loop, wall, fluid=rng.uniform(10, 60), gas_level=gas_level)
    pancreas = canvas.around((-45, -35, -25), (95, 35, 60))
    path = [patient.near(p) for p in ((-32, -6, -8), (-26, -14, 8), (18, -22, 20), (80, 14, 44))]
    pancreas.paint(
        pancreas.tube(path, [13, 13, 10, 9]) + pancreas.lumps, patient.enhanced(95, 8, 6) + 8 * pancreas.texture
    )


def paint_hollow(
    part: Canvas, shape: Array, wall: float, fluid: float, gas_level: float | None, label: int = 0
) -> None:
    """A hollow organ: its wall, the fluid in it and, in front of y = ``gas_level``, the gas on the fluid."""
    part.paint(shape, wall, label)
    part.paint(shape + 3.5, fluid + 12 * part.texture, label)
    if gas_level is not None:
        part.paint(np.maximum(shape + 4, part.y - gas_level), -950, label)


def paint_stomach(canvas: Canvas, patient: Patient) -> None:
    part = canvas.around((-40, -90, -30), (105, 50, 120))
    path = [(60, 12, 74), (62, -22, 46), (46, -48, 12), (10, -56, -6), (-22, -44, 4)]
    fullness = float(np.clip(patient.rng.normal(1, 0.12), 0.8, 1.2))
    placed = [patient.near(p, 4) for p in path]
    shape = part.tube(placed, [fullness * r for r in (31, 33, 27, 19, 11)]) + part.lumps
    cavity = part.column(0, -9, 124, 86)
    shape = np.maximum(shape, cavity + 5)
    paint_hollow(
        part,
        shape,
        wall=patient.enhanced(85, 7, 5),
        fluid=patient.rng.uniform(5, 60),
        gas_level=patient.rng.uniform(-70, -35) if patient.rng.random() < 0.7 else None,
        label=LABELS["stomach"],
    )


def paint_liver(canvas: Canvas, patient: Patient) -> None:
    part = canvas.around((-130, -95, -75), (75, 80, 120))
    cavity = part.column(0, -9, 124, 86)
    shape = union(
        part.ellipsoid(patient.near((-68, -10, 42)), patient.about((62, 78, 68)), patient.tilted((0, 0, 0))),
        part.ellipsoid(patient.near((-8, -50, 56)), patient.about((64, 32, 36)), patient.tilted((0, -8, 0))),
        part.ellipsoid(patient.near((-92, 4, -12)), patient.about((26, 52, 52)), patient.tilted((0, 0, 0))),
        blend=14,
    )
    fissure = part.ellipsoid(patient.near((-12, -18, 0)), (44, 26, 34))  # porta hepatis, on the lower surface
    shape = np.maximum(shape + part.lumps, np.maximum(cavity + 4, -fissure))
    hu = patient.enhanced(106, 8, 9)
    part.paint(shape - 1.5, -60)  # a thin layer of fat keeps neighbours apart
    part.paint(shape, hu + 5 * part.texture, LABELS["liver"])
    vessels = union(
        part.tube([(-20, 12, 88), (-55, -10, 70), (-95, -5, 50)], [6, 5, 3]),
        part.tube([(-20, 10, 88), (-38, -35, 68), (-40, -62, 50)], [6, 4.5, 3]),
        part.tube([(-25, -12, 22), (-55, -5, 32), (-85, 25, 30)], [6.5, 5.5, 3]),
        part.tube([(-25, -12, 22), (-15, -45, 48), (20, -55, 58)], [6.5, 5, 3]),
        blend=2,
    )
    part.paint(np.maximum(vessels, shape + 4), hu + patient.rng.uniform(20, 45), LABELS["liver"])
    gallbladder = part.ellipsoid(patient.near((-50, -52, -2)), patient.about((15, 17, 28)), patient.tilted((25, 0, 0)))
    part.paint(gallbladder, 60)
    part.paint(gallbladder + 2, patient.rng.uniform(0, 18))


def paint_spleen(canvas: Canvas, patient: Patient) -> None:
    part = canvas.around((45, -50, -15), (130, 90, 120))
    cavity = part.column(0, -9, 124, 86)
    outside = part.ellipsoid(patient.near((90, 30, 52)), patient.about((38, 38, 58)), patient.tilted((28, 0, 0)))
    hilum = part.ellipsoid(patient.near((56, 4, 52), 2), (33, 40, 62), (20, 0, 0))
    shape = np.maximum(np.maximum(outside + part.lumps, cavity + 4), -hilum)
    part.paint(shape - 2, -80)
    part.paint(shape, patient.enhanced(118, 9, 7) + 5 * part.texture, LABELS["spleen"])


def paint_kidney(canvas: Canvas, patient: Patient, side: int) -> None:
    center = patient.near((side * 62, 38, 14 if side == LEFT else 2))
    part = canvas.around(
        (center[0] - 45, center[1] - 45, center[2] - 75), (center[0] + 45, center[1] + 45, center[2] + 75)
    )
    radii, tilt = patient.about((27, 25, 53)), patient.tilted((-6, side * -10, side * 25))
    medial = rotation(tilt) @ np.array([-side, 0, 0], np.float32)  # the hilum faces the spine
    hilum = (center[0] + 27 * medial[0], center[1] + 27 * medial[1], center[2] + 27 * medial[2])
    bean = part.ellipsoid(center, radii, tilt) + part.lumps
    sinus = part.ellipsoid(hilum, (18, 9, 21), tilt)
    shape = np.maximum(bean, -sinus)
    cortex = patient.enhanced(172, 10, 9)
    pyramids = np.float32(22) * np.clip((-bean - 6) / 4, 0, 1)  # darker medulla in the depth
    part.paint(bean - patient.rng.uniform(3, 8), -100)  # perirenal fat
    part.paint(shape, cortex - pyramids + 4 * part.texture, LABELS["kidney_left" if side == LEFT else "kidney_right"])
    pelvis = part.ellipsoid(hilum, (11, 4, 8), tilt)
    part.paint(pelvis, 20)


def paint_vessels(canvas: Canvas, patient: Patient) -> None:
    """The aorta, and what runs beside it or leaves it without a label: caval vein, renal and mesenteric vessels."""
    part = canvas.around((-75, -35, -200), (75, 50, 200))
    blood, veins = patient.enhanced(165, 20, 8), patient.enhanced(130, 12, 8)
    for side in (RIGHT, LEFT):
        part.paint(part.tube([(side * -4, 6, 0), (side * 30, 22, 2), (side * 42, 32, 4)], [4.5, 4, 4]), veins)
    part.paint(part.tube([(8, 4, 12), (6, -22, -5), (2, -30, -70)], [4, 4, 3.5]), blood)  # superior mesenteric artery
    part.paint(part.tube([(-8, -8, 14), (-6, -28, -10), (-8, -36, -70)], [6, 5, 4.5]), veins)  # and vein
    caval = part.column(-21 - 0.03 * part.z, 15 - 0.02 * part.z, *patient.rng.uniform((10, 7), (14, 11)))
    part.paint(caval + 0.5 * part.lumps, veins)
    bend = patient.rng.uniform(0, 2 * np.pi)
    radius = patient.rng.uniform(9.5, 12.5) + 0.012 * part.z  # narrows downwards
    aorta = part.column(9 + 3 * np.sin(part.z / 45 + bend), 13 + 0.03 * part.z, 1, 1) - (radius - 1)
    part.paint(aorta, blood, LABELS["aorta"])
    plaque = part.ellipsoid((12, 20, patient.rng.uniform(-80, 60)), (5, 2.5, 7))
    part.paint(np.maximum(plaque, aorta), 600, LABELS["aorta"])


def write_dataset(
    folder: Path, num_training: int, num_test: int, seed: int = 0, on_case: Callable[[str], None] = lambda _: None
) -> None:
    """Write a raw nnU-Net data set: ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs`` and ``dataset.json``.

    Args:
        folder: ``.../nnUNet_raw/DatasetXXX_Name``.
        seed: the first patient; the others follow.
        on_case: told the name of every case that has been written.
    """
    for part, patients in (
        ("Tr", range(seed, seed + num_training)),
        ("Ts", range(seed + num_training, seed + num_training + num_test)),
    ):
        for kind in ("images", "labels"):
            (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
        for patient in patients:
            name = f"phantom_{patient:03d}"
            scan = abdomen(patient)
            write_volume(scan.image, scan, folder / f"images{part}" / f"{name}_0000.nii.gz")
            write_volume(scan.label, scan, folder / f"labels{part}" / f"{name}.nii.gz")
            on_case(name)
    description = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": num_training,
        "file_ending": ".nii.gz",
        "description": "synthetic abdominal CT, see nnunetv2_tpmamba.phantom",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2))


def write_volume(volume: np.ndarray, scan: Scan, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing(scan.spacing[::-1])
    image.SetOrigin(scan.origin)
    SimpleITK.WriteImage(image, str(path), useCompression=True)
