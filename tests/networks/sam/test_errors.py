"""Errors about SAM's file carry their reason and the advice apart."""

import pickle

import pytest

from nnunetv2_tpmamba.networks.sam import download
from nnunetv2_tpmamba.networks.sam.errors import OWN_SIZES, MissingSamFileError, SamFileError, UnusableSamFileError
from nnunetv2_tpmamba.networks.sam.models import HUB_FILES, MODELS


@pytest.mark.parametrize(
    ("error", "kind"), [(MissingSamFileError, FileNotFoundError), (UnusableSamFileError, ValueError)]
)
@pytest.mark.parametrize("model", [*MODELS.values(), None])
@pytest.mark.parametrize(("remedy", "rest"), [("", ""), ("save it again", "\nsave it again")])
def test_reason_and_advice_are_apart_and_told_together(error, kind, model, remedy, rest):
    first = error("no file", model, remedy)
    for one in (first, pickle.loads(pickle.dumps(first))):
        assert isinstance(one, SamFileError)
        assert isinstance(one, kind)
        assert one.reason == "no file"
        assert str(one) == f"no file; {model.advice if model else OWN_SIZES}{rest}"


@pytest.mark.parametrize("model", MODELS.values())
def test_advice_names_what_the_download_knows(model):
    names = (download.ENVIRONMENT_VARIABLE, model.meta_file, model.hub_repository, HUB_FILES[0])
    assert all(name in model.advice for name in names)
