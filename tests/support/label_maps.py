"""Label maps of random shapes, and their files."""

import numpy as np
import SimpleITK

SPACING = (2.5, 0.8, 1.3)  # mm, (z, y, x)


def blob(seed, shape=(14, 25, 21)):
    """A smooth random shape that does not touch all borders."""
    generator = np.random.default_rng(seed)
    center = [size / 2 + generator.uniform(-2, 2) for size in shape]
    radii = [size / generator.uniform(3, 5) for size in shape]
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, center, radii, strict=True))
    return distance + generator.normal(0, 0.15, shape) < 1


def write_labels(path, labels, spacing=SPACING, origin=(0.0, 0.0, 0.0)):
    """Write labels as uint8; they and ``spacing`` are in the order (z, y, x). Returns the path."""
    image = SimpleITK.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
    return path
