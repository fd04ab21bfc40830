"""Which patches are refused, and that the size proposed instead is a good one."""

import re
from itertools import product

import pytest

from nnunetv2_tpmamba.networks.baselines.patches import check_multiples


@pytest.mark.parametrize(
    ("patch_size", "rule", "message"),
    [
        ((96, 96, 100), {}, "multiples of 16; set patch_size to e.g. (96, 96, 96)"),
        (
            (16, 96, 96),
            {"smallest": 32},
            "multiples of 16 and at least 32; set patch_size to e.g. (32, 96, 96)",
        ),
        ((96, 20, 70), {"multiple": (16, 8, 32)}, "multiples of (16, 8, 32); set patch_size to e.g. (96, 16, 64)"),
        ((96, 96, 80), {"cube": True}, "equal and multiples of 16; set patch_size to e.g. (96, 96, 96)"),
    ],
)
def test_says_what_is_needed_and_proposes_a_size(patch_size, rule, message):
    with pytest.raises(ValueError, match=re.escape(f"patch size {patch_size}: the sides must be {message}")):
        check_multiples(patch_size, **{"multiple": 16, **rule})


@pytest.mark.parametrize("rule", [{}, {"smallest": 32}, {"cube": True}, {"smallest": 32, "cube": True}])
def test_what_is_proposed_is_taken(rule):
    for patch_size in product((1, 8, 23, 24, 40, 64), repeat=3):
        try:
            check_multiples(patch_size, 16, **rule)
        except ValueError as error:
            check_multiples(tuple(map(int, str(error).rpartition("(")[2].strip(")").split(", "))), 16, **rule)
