"""An adult's abdomen, organ by organ, in the reference coordinates that :mod:`.phantom` explains."""

import numpy as np

from .canvas import Array, Canvas, rotation, union
from .patient import LEFT, RIGHT, Patient
from .trunk import paint_muscles, paint_spine, paint_trunk

LABELS = {
    "background": 0,
    "liver": 1,
    "spleen": 2,
    "kidney_right": 3,
    "kidney_left": 4,
    "stomach": 5,
    "aorta": 6,
}


def paint_patient(canvas: Canvas, patient: Patient) -> None:
    """Paint everything inside the skin; each organ covers what was painted before it."""
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


def paint_bowel(canvas: Canvas, patient: Patient) -> None:
    """Paint colon, small bowel and pancreas, which have no label and are as bright as the organs."""
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
    """Paint a hollow organ: its wall, its fluid and, in front of y = ``gas_level``, the gas above the fluid."""
    part.paint(shape, wall, label)
    part.paint(shape + 3.5, fluid + 12 * part.texture, label)
    if gas_level is not None:
        part.paint(np.maximum(shape + 4, part.y - gas_level), -950, label)


def paint_stomach(canvas: Canvas, patient: Patient) -> None:
    """Paint the stomach with fluid and, in most patients, gas."""
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
    """Paint the liver with its vessels, and the gallbladder without a label."""
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
    """Paint the spleen."""
    part = canvas.around((45, -50, -15), (130, 90, 120))
    cavity = part.column(0, -9, 124, 86)
    outside = part.ellipsoid(patient.near((90, 30, 52)), patient.about((38, 38, 58)), patient.tilted((28, 0, 0)))
    hilum = part.ellipsoid(patient.near((56, 4, 52), 2), (33, 40, 62), (20, 0, 0))
    shape = np.maximum(np.maximum(outside + part.lumps, cavity + 4), -hilum)
    part.paint(shape - 2, -80)
    part.paint(shape, patient.enhanced(118, 9, 7) + 5 * part.texture, LABELS["spleen"])


def paint_kidney(canvas: Canvas, patient: Patient, side: int) -> None:
    """Paint one kidney in its fat; its sinus and pelvis have no label."""
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
    """Paint the aorta, and without a label the caval vein and the renal and mesenteric vessels."""
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
