"""Check that training can start on this machine, and say what to do where it cannot.

Each check prints one line: "ok", "note" (it works, but you should know something) or "FAIL" (nnUNetTrainerTPMamba
cannot start), and below it what to do. This command downloads nothing and writes only numba's cache of the compiled
scan. The exit status is 0 if no check failed, else 1.
"""

import argparse

from nnunetv2_tpmamba.doctor import CHECKS
from nnunetv2_tpmamba.doctor.finding import FAIL, examine

HELP = "check that training can start here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this verb has no options."""


def run(args: argparse.Namespace) -> int:
    failed = 0
    for title, check in CHECKS.items():
        finding = examine(title, check)
        failed += finding.state == FAIL
        print(f"{finding.state:4}  {finding.text}", flush=True)
        for advice in finding.advice:
            print(f"      -> {advice}", flush=True)
    print(f"\n{failed} of {len(CHECKS)} checks failed." if failed else "\nTraining can start.")
    return 1 if failed else 0
