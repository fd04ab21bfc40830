"""With what a training is made: versions, the package's commit, and the device."""

import json
import platform
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import distribution, version
from pathlib import Path

import torch

PACKAGE = "nnunetv2_tpmamba"
CPUINFO = Path("/proc/cpuinfo")
CLONE = Path(__file__).parents[2]


def environment(device: torch.device) -> dict[str, str]:
    """Versions and hardware of a training on ``device``, by name."""
    at = commit()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "nnunetv2": version("nnunetv2"),
        PACKAGE: version(PACKAGE) + (f" ({at})" if at else ""),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": processor(),
    }


def commit() -> str | None:
    """The commit of this package's clone, or the one that pip installed; None for an installed release.

    "-dirty" follows it where files of the clone differ from the commit.
    """
    if (CLONE / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):  # no git, or one that does not trust the folder's owner
            describe = ["git", "-C", str(CLONE), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
            return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    origin = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
    return origin.get("vcs_info", {}).get("commit_id", "")[:12] or None


def processor() -> str:
    """Name the processor's model; Python's own answer is empty on most Linux systems."""
    found = CPUINFO.is_file() and re.search(r"^model name\s*: (.+)$", CPUINFO.read_text(), re.MULTILINE)
    return found.group(1) if found else platform.processor() or sys.platform
