"""What a trainer writes into nnU-Net's training log for a comparison to read."""

import re

PEAK_MEMORY = re.compile(r"Peak memory: (\d+(?:\.\d+)?) GB")


def peak_memory_line(peak: int) -> str:
    """The line that says how much memory a training took.

    Args:
        peak: bytes.
    """
    return f"Peak memory: {peak / 1e9:.1f} GB"


def read_peak_memory(log: str) -> float | None:
    """The largest peak memory in a log, in GB; None where the log names none."""
    return max(map(float, PEAK_MEMORY.findall(log)), default=None)
