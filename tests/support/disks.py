"""Small and read-only disks, for tests of what happens on them."""

import shutil
import subprocess
from contextlib import contextmanager

import pytest


def mount(*arguments):
    """Run ``mount``, or skip the test where the user may not."""
    if shutil.which("mount") is None or subprocess.run(["mount", *map(str, arguments)], check=False).returncode:
        pytest.skip("needs the right to mount")


@contextmanager
def mounted(folder, *arguments):
    """Mount something on ``folder`` while the context lasts."""
    folder.mkdir(exist_ok=True)
    mount(*arguments, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def small_disk(folder, size):
    """A disk of ``size`` bytes at ``folder``, in memory."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
