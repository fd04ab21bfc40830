"""Errors about SAM's file carry their reason and the advice apart."""

import pickle

import pytest

from nnunetv2_tpmamba.networks.sam import download
from nnunetv2_tpmamba.networks.sam.errors import ADVICE, MissingSamFileError, SamFileError, UnusableSamFileError


@pytest.mark.parametrize(
    ("error", "kind"), [(MissingSamFileError, FileNotFoundError), (UnusableSamFileError, ValueError)]
)
def test_reason_and_advice_are_apart_and_told_together(error, kind):
    for remedy, rest in ("", ""), ("save it again", "\nsave it again"):
        first = error("no file", remedy)
        for one in (first, pickle.loads(pickle.dumps(first))):
            assert isinstance(one, SamFileError)
            assert isinstance(one, kind)
            assert one.reason == "no file"
            assert str(one) == f"no file; {ADVICE}{rest}"


def test_advice_names_what_the_download_knows():
    names = (download.ENVIRONMENT_VARIABLE, download.META_FILE, download.HUB_REPOSITORY, download.HUB_FILES[0])
    assert all(name in ADVICE for name in names)
