"""The surroundings of the organs: table, wall of the trunk, lungs, heart, muscles and spine."""

import numpy as np

from .canvas import Array, Canvas
from .patient import LEFT, RIGHT, Patient


def paint_table(canvas: Canvas, x: Array, y: Array, half_depth: float) -> None:
    """Paint the curved table in the scanner's coordinates, because it does not bend with the patient."""
    top = y - (np.float32(half_depth + 14) - x**2 / 1200) + 0 * canvas.z
    foam = np.maximum(-top, top - 26)
    canvas.paint(foam, -900)
    canvas.paint(np.abs(foam) - 1.5, 60)


def paint_trunk(canvas: Canvas, patient: Patient) -> None:
    """Paint skin, fat, muscle wall, ribs, lung bases, heart and the fat inside the abdominal cavity."""
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
    """Paint the muscles beside the spine."""
    for side in (RIGHT, LEFT):
        back = canvas.around((side * 40 - 35, 45, -200), (side * 40 + 35, 100, 200))
        back.paint(np.maximum(back.column(side * 37, 74, 31, 22), 8 - side * back.x), 48 + 12 * back.texture)
        psoas = canvas.around((side * 40 - 40, 10, -200), (side * 40 + 40, 80, 30))
        lean = side * (31 - 0.09 * np.minimum(psoas.z, 30))
        psoas.paint(np.maximum(psoas.column(lean, 43, 17, 20), psoas.z - 25), 58)


def paint_spine(canvas: Canvas, patient: Patient) -> None:
    """Paint vertebrae, the discs between them and the spinal canal."""
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
