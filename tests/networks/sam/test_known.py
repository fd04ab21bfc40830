"""Which weights a file holds follows from its content: the name from the file's SHA-256, the rest from its tensors."""

import re

import pytest
import torch
from support.configs import TINY
from support.sam_layouts import LAYOUTS, small_sam

from nnunetv2_tpmamba.files import sha256, sha256_of_tensors
from nnunetv2_tpmamba.networks.sam.known import PUBLISHED, Encoder, Published, identify_file
from nnunetv2_tpmamba.networks.sam.models import MODELS, VIT_B
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint


@pytest.fixture
def file(tmp_path):
    torch.save(small_sam().state_dict(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def identify(file, model=VIT_B):
    return identify_file(file, read_sam_checkpoint(file, TINY), model)


def test_a_published_file_is_known_under_any_name(file, monkeypatch):
    monkeypatch.setitem(PUBLISHED, sha256(file), Published("Some SAM", "CC-BY-4.0", "https://example.org"))
    named, renamed = identify(file), identify(file.rename(file.with_name("model.bin")))
    assert named == renamed
    assert str(named) == "Some SAM, CC-BY-4.0"
    assert Encoder(**named.as_dict()) == named


@pytest.mark.parametrize(("model", "title"), [(VIT_B, "SAM ViT-B"), (None, "encoder")])
def test_any_other_file_is_called_unknown_and_has_the_sha256_of_its_tensors(file, model, title):
    found = identify(file, model)
    assert str(found) == f"unknown {title}, SHA-256 {found.sha256}"
    assert re.fullmatch(r"[0-9a-f]{64}", found.sha256)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_sha256_of_the_tensors_is_that_of_every_layout(layout, file, tmp_path):
    torch.save(LAYOUTS[layout](small_sam().state_dict()), tmp_path / "other.pth")
    assert identify(tmp_path / "other.pth") == identify(file)


def test_the_sha256_of_the_tensors_follows_names_shapes_and_values():
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
    variants = [
        tensors,
        {"a": tensors["a"], "c": tensors["b"]},
        {"a": tensors["a"].reshape(3, 2), "b": tensors["b"]},
        {"a": tensors["a"], "b": torch.tensor([1.0, 1.0 + 2e-7])},
    ]
    assert len({sha256_of_tensors(each) for each in variants}) == len(variants)
    assert sha256_of_tensors(dict(reversed(tensors.items()))) == sha256_of_tensors(tensors)
    assert sha256_of_tensors({name: x.half() for name, x in tensors.items()}) == sha256_of_tensors(tensors)


def test_what_is_published_is_complete():
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in PUBLISHED)
    assert all(each.licence and each.source.startswith("https://") for each in PUBLISHED.values())
    for model in MODELS.values():
        assert PUBLISHED[model.meta_sha256].name == f"Meta {model.title}"
    licences = {}
    for each in PUBLISHED.values():
        assert licences.setdefault(each.name, each.licence) == each.licence
