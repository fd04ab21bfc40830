"""How long the full-size network predicts on this CPU, measured on a part of a patch."""

import math
import time
from collections.abc import Sequence

from nnunetv2_tpmamba.config import Testbed, TPMambaConfig

CONFIG = TPMambaConfig()
SLICES = 16  # of a patch's 96; the time grows with their number, and the weights are read once
CT = 300  # mm and, at the testbed's spacing, voxels on a side
OVERLAP = 0.5  # nnU-Net's tile_step_size


def describe_speed() -> str:
    """Measure how long a patch takes here, which takes some seconds, and say what that means for a whole CT."""
    import torch

    from nnunetv2_tpmamba.networks.precision import name_of_cpu_precision

    seconds, patches = seconds_per_patch(), patches_of_cube(CT, Testbed.patch_size)
    plain, mirrored = patches * seconds, patches * seconds * 2 ** len(Testbed.patch_size)
    precision = name_of_cpu_precision(training=False)
    return (
        f"one forward of the full-size network on a 96 mm cube takes about {seconds:.0f} s here ({precision}, "
        f"{torch.get_num_threads()} threads), so the {patches} cubes of a CT of {CT} mm on a side take "
        f"{duration(plain)} without mirroring (--disable_tta) and {duration(mirrored)} with it"
    )


def seconds_per_patch() -> float:
    """Time the forward pass of some slices of a patch, and scale it to all of them."""
    import torch

    from nnunetv2_tpmamba.networks.tpmamba import TPMamba

    with torch.random.fork_rng():
        network = TPMamba(1, 14, CONFIG).eval()
        slices = torch.rand(1, 1, SLICES, *Testbed.patch_size[1:])
    with torch.inference_mode():
        network(slices[:, :, :1])  # compiles, casts and touches memory
        started = time.perf_counter()
        network(slices)
    return (time.perf_counter() - started) * Testbed.patch_size[0] / SLICES


def patches_of_cube(side: int, patch_size: Sequence[int]) -> int:
    """Count the patches into which nnU-Net cuts a cubic CT of ``side`` voxels."""
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    return math.prod(map(len, compute_steps_for_sliding_window((side,) * 3, patch_size, OVERLAP)))


def duration(seconds: float) -> str:
    """Write seconds as such, as minutes, or as hours from two hours on."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
