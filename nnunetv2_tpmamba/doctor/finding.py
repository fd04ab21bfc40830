"""What a check finds."""

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import NamedTuple

OK, NOTE, FAIL = "ok", "note", "FAIL"


class Finding(NamedTuple):
    """``OK``, ``NOTE`` (works, but should be known) or ``FAIL`` (training cannot start); why; and what to do."""

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
    except (Exception, SystemExit) as error:  # any script exits, once nnU-Net imports it in search of trainers
        return Finding(FAIL, f"{title}: {in_a_line(error)}")


def in_a_line(error: BaseException) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
