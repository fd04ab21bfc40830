"""Thousands of damaged and malicious files of weights: each is refused with a clear message, and runs no code."""

import json
import os
import pickle
import re
import struct
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.damage import (
    EXAMPLES,
    after_magic,
    anywhere,
    change_header,
    change_pickle,
    damages,
    saved,
    unzipped,
    zipped,
)

from nnunetv2_tpmamba.networks.sam.errors import ADVICE
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint
from nnunetv2_tpmamba.trained.exported_file import CHECKSUM, TEXT, Description, read_exported_model, sha256_of_tensors

FILE_EXAMPLES = 400  # of each of the kinds of small files
WHOLE_MODEL_EXAMPLES = 100
ADAPTER_EXAMPLES = 1000  # of each kind of damage
MEMORY_ALLOWED = 300e6  # bytes above what the process had before


class MakeFolder:
    """Whoever unpickles it without care makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class Evaluate(MakeFolder):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({self.folder!r})",)


STATE = {"image_encoder.pos_embed": torch.full((1, 2, 2, 8), 0.5), "image_encoder.patch_embed.proj.bias": torch.ones(8)}
KINDS = {
    "zip": (lambda folder: saved(STATE), anywhere),
    "pickle in zip": (lambda folder: saved(STATE), change_pickle),
    "old torch": (lambda folder: saved(STATE, is_zip=False), anywhere),
    "safetensors": (lambda folder: safetensors.torch.save(STATE), anywhere),
    "safetensors header": (lambda folder: safetensors.torch.save(STATE), change_header),
    "zip in zip": (lambda folder: zipped({"sam.pth": saved(STATE), "archive/data.pkl": saved(STATE)}), anywhere),
    "compressed zip": (lambda folder: zipped(unzipped(saved(STATE)), zipfile.ZIP_DEFLATED), anywhere),
    "malicious zip": (lambda folder: saved(STATE | {"a": MakeFolder(folder)}), change_pickle),
    "malicious old torch": (lambda folder: saved(STATE | {"a": Evaluate(folder)}, is_zip=False), anywhere),
    "malicious pickle": (lambda folder: pickle.dumps([Evaluate(folder), MakeFolder(folder)], protocol=2), anywhere),
    "malicious protocol 5": (lambda folder: pickle.dumps({"a": MakeFolder(folder)}, protocol=5), anywhere),
    "random zip": (lambda folder: b"PK\x03\x04" + bytes(200), after_magic),
    "random safetensors": (lambda folder: struct.pack("<Q", 40) + b"{" + bytes(200), after_magic),
    "empty": (lambda folder: b"", anywhere),
}


def memory(field):
    """Bytes that this process has (``VmRSS``) or had at most (``VmHWM``)."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@pytest.fixture
def folder(tmp_path):
    """A folder in which nothing but ``sam.pth`` may appear, and a process that may not grow much."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = memory("VmRSS")
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"sam.pth"}
    assert memory("VmHWM") - before < MEMORY_ALLOWED


def read_or_refuse(path, content):
    """The weights, if this is a whole ViT-B; else the message."""
    path.write_bytes(content)
    weights = message = None
    try:
        weights = read_sam_checkpoint(path)
    except (ValueError, OSError) as error:
        message = str(error)
    if weights is None:
        assert message.startswith(f"{path} ")
        assert message.endswith(f"; {ADVICE}")
        return message
    assert len(weights) == 171
    assert all(x.dtype == torch.float32 and x.device.type == "cpu" and x.isfinite().all() for x in weights.values())
    return weights


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_sam_files_are_refused(kind, folder):
    make, edit = KINDS[kind]
    content = make(folder / "made")

    @settings(max_examples=FILE_EXAMPLES, **EXAMPLES)
    @given(damages())
    def check(change):
        assert isinstance(read_or_refuse(folder / "sam.pth", edit(content, change)), str)

    check()


@pytest.fixture(scope="module")
def whole_model():
    """Every tensor of Meta's layout in its shape, each stored as the one number that it repeats."""
    shapes = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0).state_dict()
    names = {name: f"image_encoder.{name.replace('.mlp.fc', '.mlp.lin')}" for name in shapes}
    return {names[name]: torch.full((1,), 0.5).expand(x.shape) for name, x in shapes.items()}


def test_damaged_whole_models_are_refused_or_read(whole_model, folder):
    content = saved(whole_model)
    assert not isinstance(read_or_refuse(folder / "sam.pth", content), str)

    @settings(max_examples=WHOLE_MODEL_EXAMPLES, **EXAMPLES)
    @given(damages(), st.sampled_from([anywhere, change_pickle]))
    def check(change, edit):
        read_or_refuse(folder / "sam.pth", edit(content, change))

    check()


@pytest.mark.parametrize(
    ("change", "description"),
    [
        (lambda x: x.to("meta"), "a tensor without values"),
        (lambda x: x.to_sparse(), r"torch\.sparse_coo"),
        (lambda x: x.to(torch.float8_e4m3fn), r"torch\.float8_e4m3fn"),
        (lambda x: x.to(torch.complex64), r"torch\.complex64"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
def test_tensors_of_another_kind_are_refused(change, description, whole_model, folder):
    bias = "image_encoder.blocks.0.norm1.bias"
    message = read_or_refuse(folder / "sam.pth", saved(whole_model | {bias: change(whole_model[bias])}))
    assert re.search(rf"it has blocks\.0\.norm1\.bias of {description} where \(768,\) is expected", message)


@pytest.mark.parametrize("length", [2**27, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_claims_to_be_huge(length, folder):
    content = struct.pack("<Q", length) + safetensors.torch.save(STATE)[8:]
    assert "is truncated or damaged" in read_or_refuse(folder / "sam.pth", content)


def test_a_small_zip_file_that_unpacks_to_much(folder):
    contents = unzipped(saved({"image_encoder.pos_embed": torch.zeros(1)}))
    contents |= {name: bytes(4 * 2**27) for name in contents if name.endswith("data/0")}
    content = zipped(contents, zipfile.ZIP_DEFLATED)
    del contents
    Path("/proc/self/clear_refs").write_text("5")
    assert "is truncated or damaged (BadZipFile)" in read_or_refuse(folder / "sam.pth", content)


def adapter(text):
    tensors = {"0/decoder.weight": torch.arange(6.0).reshape(2, 3), "1/decoder.weight": torch.ones(2, 3)}
    return safetensors.torch.save(tensors, {TEXT: text, CHECKSUM: sha256_of_tensors(tensors, text)})


ADAPTER = asdict(
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
def test_damaged_adapter_files_are_refused(edit, folder):
    path = folder / "sam.pth"
    content = adapter(json.dumps(ADAPTER))
    path.write_bytes(content)
    assert read_exported_model(path)[0] == Description(**ADAPTER)

    @settings(max_examples=ADAPTER_EXAMPLES, **EXAMPLES)
    @given(damages())
    def check(change):
        changed = edit(content, change)
        path.write_bytes(changed)
        description, folds, message = read_exported_model_or_refuse(path)
        if message is not None:
            assert message.startswith(f"{path} is no file of ")
        else:  # the damage did no harm, for instance a double blank in the header
            assert description == Description(**ADAPTER)
            assert folds["0"]["decoder.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]

    check()


@settings(max_examples=ADAPTER_EXAMPLES, **EXAMPLES)
@given(damages())
def test_adapter_files_of_an_attacker_are_refused_or_named_as_nnunet_names(tmp_path_factory, change):
    """The text is damaged, its checksum right: whatever is accepted leads to no other folder."""
    path = tmp_path_factory.getbasetemp() / "adapter.safetensors"
    text = change(json.dumps(ADAPTER).encode()).decode(errors="replace")
    path.write_bytes(adapter(text))
    description, _, message = read_exported_model_or_refuse(path)
    if message is not None:
        assert re.match(rf"{path} is (no file of|refused)", message)
    else:
        assert len(description.model.parts) == 2
        assert ".." not in str(description.model)
