"""What a trainer writes into nnU-Net's log for comparisons and a study to read, and what nnU-Net writes there."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise

PEAK_MEMORY = re.compile(r"Peak memory: (\d+(?:\.\d+)?) GB")
PREDICTION_PEAK_MEMORY = re.compile(r"Peak memory of prediction: (\d+(?:\.\d+)?) GB")
ENVIRONMENT = re.compile(r"Environment: (\{.*\})")
VALIDATION = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?): +(predicting|Validation complete)\b(.*)", re.MULTILINE
)
"""nnU-Net's lines before it predicts a case of the final validation, and when all of them are evaluated."""


def peak_memory_line(peak: int) -> str:
    """The line that says how much memory a training took.

    Args:
        peak: bytes.
    """
    return f"Peak memory: {peak / 1e9:.1f} GB"


def prediction_peak_memory_line(peak: int) -> str:
    """The line that says how much memory the final validation took.

    Args:
        peak: bytes.
    """
    return f"Peak memory of prediction: {peak / 1e9:.1f} GB"


def environment_line(environment: Mapping[str, str]) -> str:
    """The line that says with what a training was made, such as versions; a log can hold several."""
    return f"Environment: {json.dumps(dict(environment))}"


def read_peak_memory(log: str) -> float | None:
    """The largest peak memory of a training in a log, in GB; None where the log names none."""
    return max(map(float, PEAK_MEMORY.findall(log)), default=None)


def read_prediction_peak_memory(log: str) -> float | None:
    """The largest peak memory of a final validation in a log, in GB; None where the log names none."""
    return max(map(float, PREDICTION_PEAK_MEMORY.findall(log)), default=None)


def read_environment(log: str) -> dict[str, str]:
    """With what a training was made; values that changed when it was continued stand one after the other."""
    found: dict[str, dict[str, None]] = {}
    for line in ENVIRONMENT.findall(log):
        try:
            values = json.loads(line)
        except ValueError:  # the line was cut off
            continue
        for name, value in values.items():
            found.setdefault(name, {})[str(value)] = None
    return {name: ", then ".join(values) for name, values in found.items()}


def read_prediction_seconds(log: str) -> list[float]:
    """How long each case of the last complete final validation took but its last one; any nnU-Net trainer's log has it.

    A case ends where the next begins. Its label map is written meanwhile by other processes, and the next case waits
    only where these have too much to do.
    """
    begun: dict[str, datetime] = {}
    complete: list[datetime] = []
    for time, event, case in VALIDATION.findall(log):
        if event == "predicting":
            if case in begun:  # the validation was stopped, and begins anew
                begun = {}
            begun[case] = datetime.fromisoformat(time)
        else:
            complete, begun = list(begun.values()), {}
    return [(end - start).total_seconds() for start, end in pairwise(complete)]


STOPPED = "Stopped"
"""How the last message of a training begins that an error or a signal ended."""


def stopped_line(error: BaseException) -> str:
    """The line that says which error ended a training."""
    return f"{STOPPED}: {str(error) or type(error).__name__}"


def says_stopped(message: str) -> bool:
    """Whether a training wrote this message at its end, because an error or a signal ended it."""
    return message.startswith((f"{STOPPED}: ", f"{STOPPED} by "))
