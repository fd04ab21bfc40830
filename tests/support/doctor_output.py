"""What the doctor printed, by the state of its findings."""

import re

from nnunetv2_tpmamba.doctor import CHECKS


def in_state(state, output):
    return re.findall(rf"^{state} +(.*)", output, re.MULTILINE)


def fails_alone(output):
    """The text of the one check that failed, after making sure that all others ran and did not."""
    failed = in_state("FAIL", output)
    assert len(failed) == 1, output
    assert len(in_state("(?:ok|note)", output)) == len(CHECKS) - 1
    assert f"1 of {len(CHECKS)} checks failed." in output
    return failed[0]
