"""The numbers of the testbed, which are the paper's and nnU-Net's."""

import ast
import re
from dataclasses import asdict

import pytest
from support.nnunet import REPOSITORY

from nnunetv2_tpmamba.config import Testbed, TPMambaConfig


def test_the_testbed_is_the_papers():
    testbed = Testbed()
    assert (testbed.spacing, testbed.patch_size, testbed.hu_window) == ((1, 1, 1), (96, 96, 96), (-200, 250))
    assert (testbed.batch_size, testbed.initial_lr, testbed.num_epochs) == (1, 2e-4, 1000)


def test_epochs_are_as_long_as_nnunets():
    testbed = Testbed()
    assert (testbed.num_iterations_per_epoch, testbed.num_val_iterations_per_epoch) == (250, 50)


@pytest.mark.parametrize("cls", [Testbed, TPMambaConfig])
def test_the_reference_lists_every_number_with_its_default(cls):
    page = (REPOSITORY / "docs" / "reference.md").read_text()
    section = page.partition(f"\n### {cls.__name__}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE)
    assert {name: ast.literal_eval(default) for name, default in rows} == asdict(cls())
