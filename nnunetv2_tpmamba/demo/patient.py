"""One synthetic patient: the sizes, positions and HU values that differ from the reference anatomy."""

from dataclasses import dataclass

import numpy as np

from .canvas import Point

RIGHT, LEFT = -1, 1  # sign of x


@dataclass(frozen=True)
class Patient:
    """The properties in which one patient differs from the reference anatomy."""

    rng: np.random.Generator
    size: Point  # of the trunk along x, y, z, 1 = reference anatomy
    fat: float  # mm under the skin
    contrast: float  # contrast phase: moves all enhancing organs together, unit variance

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Patient":
        """Draw a patient, and keep the generator for all that is drawn later."""
        x, y, z = np.clip(rng.normal(1.0, 0.05, 3), 0.9, 1.1)
        return cls(rng, (float(x), float(y), float(z)), fat=rng.uniform(9, 32), contrast=rng.normal())

    @property
    def skin_radii(self) -> tuple[float, float]:
        """Half axes of the trunk along x and y, mm, in the reference anatomy."""
        return 141 + self.fat, 103 + 0.7 * self.fat

    def near(self, center: Point, deviation: float = 3.0) -> Point:
        """Draw a position around ``center``; all in mm."""
        x, y, z = self.rng.normal(center, deviation)
        return float(x), float(y), float(z)

    def about(self, radii: Point) -> Point:
        """Draw radii similar to ``radii``; all in mm."""
        x, y, z = np.multiply(radii, np.clip(self.rng.normal(1, 0.06, 3), 0.87, 1.13))
        return float(x), float(y), float(z)

    def tilted(self, degrees: Point) -> Point:
        """Draw a pose around ``degrees``."""
        return self.near(degrees, deviation=5.0)

    def enhanced(self, hu: float, by_phase: float, deviation: float) -> float:
        """Draw the HU of an organ that takes up contrast medium."""
        return hu + by_phase * float(np.clip(self.contrast, -2, 2)) + float(self.rng.normal(0, deviation))
