"""Environment variables that name a file or a folder, where no shell read them before they were set."""

import os

from .finding import FAIL, Finding


def check_spelling(variable: str) -> Finding | None:
    """Find what a shell would have taken away or replaced: quotation marks, blanks around, ``~`` and ``$NAME``.

    Windows' ``set``, the env files of Docker and Slurm's ``--export`` hand them on. A value is as it should be if there
    is a file or folder of that very name.
    """
    value = os.environ.get(variable, "")
    meant = as_a_shell_reads(value)
    if meant == value or os.path.exists(value):
        return None
    text = f"{variable}={value} holds what a shell takes away or replaces (quotation marks, blanks, ~ or $)"
    return Finding(FAIL, text, (f"set it without: {variable}={meant}",))


def as_a_shell_reads(value: str) -> str:
    """Return a value without the quotation marks and blanks around it, with ``~`` and ``$NAME`` replaced."""
    text = value.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return os.path.expanduser(os.path.expandvars(text))
