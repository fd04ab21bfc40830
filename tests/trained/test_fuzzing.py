"""Thousands of damaged and malicious exported models: each is refused or read as it was written, and no code is run."""

import json
import re
from dataclasses import asdict

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from support.damage import EXAMPLES, anywhere, change_header, damages, no_harm

from nnunetv2_tpmamba.files import sha256_of_tensors
from nnunetv2_tpmamba.trained.exported_file import CHECKSUM, TEXT, Description, read_exported_model

EXAMPLES_OF_A_KIND = 1000  # of each kind of damage


@pytest.fixture
def folder(tmp_path):
    with no_harm(tmp_path, {"model.safetensors"}):
        yield tmp_path


def file_content(text):
    tensors = {"0/decoder.weight": torch.arange(6.0).reshape(2, 3), "1/decoder.weight": torch.ones(2, 3)}
    return safetensors.torch.save(tensors, {TEXT: text, CHECKSUM: sha256_of_tensors(tensors, text)})


DESCRIPTION = asdict(
    Description(
        {"dataset_name": "Dataset001_X", "plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {}}},
        {"labels": {"background": 0}},
        *("nnUNetTrainerTPMamba", "3d_fullres", "checkpoint_final.pth", [0, 1, 2], 64 * "0"),
    )
)


def read_exported_model_or_refuse(path):
    try:
        return *read_exported_model(path), None
    except ValueError as error:
        return None, None, str(error)


@pytest.mark.parametrize("edit", [anywhere, change_header])
def test_damaged_files_are_refused(edit, folder):
    path = folder / "model.safetensors"
    content = file_content(json.dumps(DESCRIPTION))
    path.write_bytes(content)
    assert read_exported_model(path)[0] == Description(**DESCRIPTION)

    @settings(max_examples=EXAMPLES_OF_A_KIND, **EXAMPLES)
    @given(damages())
    def check(change):
        changed = edit(content, change)
        path.write_bytes(changed)
        description, folds, message = read_exported_model_or_refuse(path)
        if message is not None:
            assert message.startswith(f"{path} is no file of ")
        else:  # the damage did no harm, for instance a double blank in the header
            assert description == Description(**DESCRIPTION)
            assert folds["0"]["decoder.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]

    check()


@settings(max_examples=EXAMPLES_OF_A_KIND, **EXAMPLES)
@given(damages())
def test_files_of_an_attacker_are_refused_or_named_as_nnunet_names(tmp_path_factory, change):
    """The text is damaged, its checksum right: whatever is accepted leads to no other folder."""
    path = tmp_path_factory.getbasetemp() / "model.safetensors"
    text = change(json.dumps(DESCRIPTION).encode()).decode(errors="replace")
    path.write_bytes(file_content(text))
    description, _, message = read_exported_model_or_refuse(path)
    if message is not None:
        assert re.match(rf"{path} is (no file of|refused)", message)
    else:
        assert len(description.model.parts) == 2
        assert ".." not in str(description.model)
