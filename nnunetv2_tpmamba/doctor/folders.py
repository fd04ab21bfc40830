"""Checks of nnU-Net's three folders: that they can be read, and written to where training writes."""

import os
import shlex
import shutil
import tempfile
from pathlib import Path

from .finding import FAIL, NOTE, OK, Finding, in_a_line
from .variables import check_spelling

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
ENOUGH_SPACE = 10.0  # GiB; with less free space a note says so


def check_raw() -> Finding:
    """Check ``nnUNet_raw``, which training reads unless the data at 1 mm are there already."""
    finding = check_folder(RAW, is_written=False)
    preprocessed = os.environ.get(PREPROCESSED)
    if finding.state == FAIL and preprocessed and any(Path(preprocessed).glob("Dataset*/*_tpmamba*")):
        text = f"{finding.text}; only what is preprocessed for TP-Mamba already can be trained"
        return Finding(NOTE, text, finding.advice)
    return finding


def check_folder(variable: str, is_written: bool) -> Finding:
    """Check the folder that an environment variable names.

    Args:
        variable: its name.
        is_written: training writes there, else it only reads.
    """
    value = os.environ.get(variable, "")
    if not value.strip():
        return Finding(FAIL, f"{variable} is not set; nnU-Net needs it", (f"export {variable}=/path/to/{variable}",))
    if finding := check_spelling(variable):
        return finding
    folder, choose = Path(value), f"export {variable}=/another/folder"
    if folder.exists() and not folder.is_dir():
        return Finding(FAIL, f"{variable}={value} is a file, not a folder", (choose,))
    if not folder.exists():
        if is_written and folder.parent.is_dir() and not why_not_writable(folder.parent):
            return Finding(NOTE, f"{variable}={value} does not exist yet; nnU-Net makes it")
        return Finding(FAIL, f"{variable}={value} does not exist", (f"mkdir -p {shlex.quote(value)}", f"or {choose}"))
    if not is_written:
        if not os.access(folder, os.R_OK | os.X_OK):
            return Finding(FAIL, f"{variable}={value} cannot be read", ("ask its owner for access", f"or {choose}"))
        return Finding(OK, f"{variable}={value}")
    if problem := why_not_writable(folder):
        return Finding(FAIL, f"{variable}={value} cannot be written to: {problem}", (choose,))
    free = shutil.disk_usage(folder).free / 2**30
    if free < ENOUGH_SPACE:
        return Finding(NOTE, f"{variable}={value}: only {free:.1f} GiB are free", (f"make room, or {choose}",))
    return Finding(OK, f"{variable}={value} ({free:.0f} GiB free)")


def why_not_writable(folder: Path) -> str:
    """Try to write, because permissions say nothing about read-only file systems and quotas; "" if it works."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or in_a_line(error)
    return ""
