"""The result of a check."""

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import NamedTuple

OK, NOTE, FAIL = "ok", "note", "FAIL"


class Finding(NamedTuple):
    """The result of a check.

    Args:
        state: ``OK``, ``NOTE`` (it works, but a user should know something) or ``FAIL`` (training cannot start).
        text: what was found.
        advice: what to do, line by line.
    """

    state: str
    text: str
    advice: tuple[str, ...] = ()


def examine(title: str, check: Callable[[], Finding]) -> Finding:
    """Run one check, hold back what other packages print meanwhile, and turn an error into a finding."""
    unseen = io.StringIO()
    try:
        with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check()
    except (Exception, SystemExit) as error:  # in search of trainers nnU-Net also imports scripts, which may exit
        return Finding(FAIL, f"{title}: {in_a_line(error)}")


def in_a_line(error: BaseException) -> str:
    """Shorten an error to its kind and the first line of its text."""
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
