"""The canvas of the synthetic CT, and signed distances in mm to the simple shapes that are painted on it."""

from dataclasses import dataclass, fields

import numpy as np

DEFORMATION_MM = 4.0  # standard deviation, along each axis, of each patient's smooth deformation
EDGE_MM = 1.6  # width of a tissue border before the scanner blurs it

Array = np.ndarray  # float32
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """The two images to paint, and for each voxel its place ``x, y, z`` in the reference anatomy (mm)."""

    x: Array
    y: Array
    z: Array
    hu: Array
    label: np.ndarray
    texture: Array  # unit variance, mottles tissue
    lumps: Array  # mm, roughens surfaces

    def around(self, low: Point, high: Point) -> "Canvas":
        """The part of the canvas around the box from ``low`` to ``high``; painting this view paints the canvas."""
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
        """Fill where ``distance`` (mm) is negative; the border is soft in ``hu`` and sharp in ``label``."""
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
