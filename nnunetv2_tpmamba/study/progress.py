"""How far one training is, by what nnU-Net writes into its folder: logs, ``debug.json``, checkpoints, validation."""

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from nnunetv2_tpmamba.comparison.runs import CHECKPOINTS, known
from nnunetv2_tpmamba.data.cases import files_of_cases
from nnunetv2_tpmamba.data.dataset_json import read_json
from nnunetv2_tpmamba.data.few_shot import Fold
from nnunetv2_tpmamba.data.training_log import says_stopped

State = Literal["finished", "running", "stopped", "not started", "other cases"]

MESSAGE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?: +(\S.*?) *$", re.MULTILINE)
EPOCH = re.compile(r"Epoch (\d+)")
EPOCH_TIME = re.compile(r"Epoch time: (\d+(?:\.\d+)?) s")
CASES = re.compile(r"This split has (\d+) training and (\d+) validation cases")

PATIENCE = 600  # seconds without a word from a training that is taken to run still, at least
EPOCHS_OF_PATIENCE = 3
PATIENCE_BEFORE_AN_EPOCH = 3600  # seconds; preprocessing, compiling and the first epoch take an unknown time
RECENT = 20  # epochs whose median is the pace


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Args:
        state: ``"other cases"`` is a training on other cases than the study's.
        ended: how many epochs have ended.
        epochs: how many there are in all; None where no file says it.
        epoch_seconds: median of the last epochs; None before one has ended.
        last_sign: when the newest log was written, in seconds since 1970; None if there is none.
        message: the last one in the log, or what is missing.
        validating: all epochs have ended, and the validation cases are predicted.
    """

    state: State
    ended: int = 0
    epochs: int | None = None
    epoch_seconds: float | None = None
    last_sign: float | None = None
    message: str = ""
    validating: bool = False

    def seconds_left(self, now: float) -> float | None:
        """How long the remaining epochs of a running training take at its pace; None if that is not known."""
        if self.state != "running" or self.epochs is None or self.epoch_seconds is None or self.validating:
            return None
        assert self.last_sign is not None
        left = (self.epochs - self.ended) * self.epoch_seconds
        return max(0.0, left - min(now - self.last_sign, self.epoch_seconds))


def read_progress(folder: Path, fold: Fold, ending: str, now: float) -> Progress:
    """Read how far a training is; no checkpoint is loaded.

    Args:
        folder: nnU-Net's folder of the fold, which need not exist.
        fold: what the study trains and validates on.
        ending: how the names of label maps end.
        now: seconds since 1970.
    """
    logs = sorted(folder.glob("training_log_*.txt"), key=lambda log: log.stat().st_mtime)
    validated, final = (folder / "validation" / "summary.json").is_file(), (folder / CHECKPOINTS[0]).is_file()
    if not logs and not validated and not final:
        return Progress("not started")
    messages = [each for log in logs for each in MESSAGE.findall(log.read_text(encoding="utf-8", errors="replace"))]
    ended, seconds = _epochs(messages)
    facts: dict[str, Any] = {
        "ended": ended,
        # into debug.json nnU-Net writes all attributes of the trainer, as texts
        "epochs": known(lambda: int(read_json(folder / "debug.json")["num_epochs"])),
        "epoch_seconds": median(seconds[-RECENT:]) if seconds else None,
        "last_sign": logs[-1].stat().st_mtime if logs else None,
        "validating": final and not validated,
    }
    last = messages[-1] if messages else ""
    if problem := _other_cases(folder, messages, fold, ending, validated):
        return Progress("other cases", **facts, message=problem)
    if final and validated:
        return Progress("finished", **facts)
    if logs and now - facts["last_sign"] <= _patience(facts["epoch_seconds"]) and not says_stopped(last):
        return Progress("running", **facts, message=last)
    return Progress("stopped", **facts, message="; ".join(filter(None, (_missing(folder, final, ended), last))))


def _epochs(messages: list[str]) -> tuple[int, list[float]]:
    """How many epochs have ended, and the seconds of each; an epoch that was repeated after a stop counts once."""
    epoch, ended, seconds = 0, 0, []
    for message in messages:
        if begun := EPOCH.fullmatch(message):
            epoch = ended = int(begun[1])
        elif taken := EPOCH_TIME.fullmatch(message):
            ended = epoch + 1
            seconds.append(float(taken[1]))
    return ended, seconds


def _patience(epoch_seconds: float | None) -> float:
    return PATIENCE_BEFORE_AN_EPOCH if epoch_seconds is None else max(PATIENCE, EPOCHS_OF_PATIENCE * epoch_seconds)


def _other_cases(folder: Path, messages: list[str], fold: Fold, ending: str, validated: bool) -> str:
    """Say that a training was made on other cases than the fold's, as far as nnU-Net's files tell."""
    counted = [tuple(map(int, counts)) for message in messages for counts in CASES.findall(message)]
    planned = (len(fold.train), len(fold.val))
    if counted and counted[-1] != planned:
        return "trained on {} and validated on {} cases, the study has {} and {}".format(*counted[-1], *planned)
    if validated and set(files_of_cases(folder / "validation", ending)) - set(fold.val):
        return "validated on cases that are not the study's"
    return ""


def _missing(folder: Path, final: bool, ended: int) -> str:
    if final:
        return "trained, but validation/summary.json is missing"
    if ended and not any((folder / name).is_file() for name in CHECKPOINTS):
        return "no checkpoint is left, so it begins anew"
    return ""
