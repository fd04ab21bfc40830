"""How busy the machine is with other work, which makes measurements mislead."""

import os
from collections.abc import Mapping

AVERAGE, PER_CORE = "load average", "load per core"
BUSY = 0.3  # per core; times on machines that do other work were off by factors of 3 to 10


def load() -> dict[str, str]:
    """The machine's load average of the last minute, alone and per core; nothing where the system does not say it."""
    try:
        average = os.getloadavg()[0]
    except (OSError, AttributeError):  # Windows has none
        return {}
    return {AVERAGE: f"{average:.2f}", PER_CORE: f"{average / (os.cpu_count() or 1):.2f}"}


def load_per_core(facts: Mapping[str, str]) -> float | None:
    """Read it from the facts of a measurement; None if they do not have it."""
    try:
        return float(facts[PER_CORE])
    except (KeyError, ValueError):
        return None


def load_warnings(facts: Mapping[str, str]) -> list[str]:
    """Say that the machine was busy when a measurement began."""
    per_core = load_per_core(facts)
    if per_core is None or per_core <= BUSY:
        return []
    return [
        f"other work keeps this machine busy: its load average is {facts[AVERAGE]}, {facts[PER_CORE]} per core, and "
        f"times mislead above {BUSY}; measure when it is idle"
    ]
