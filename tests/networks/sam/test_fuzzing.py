"""Thousands of damaged and malicious SAM files: each is refused with a clear message, and none runs code."""

import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.configs import TINY
from support.damage import (
    EXAMPLES,
    after_magic,
    anywhere,
    change_header,
    change_pickle,
    damages,
    no_harm,
    saved,
    unzipped,
    zipped,
)
from support.sam_layouts import LAYOUTS, small_sam

from nnunetv2_tpmamba.networks.sam.errors import OWN_SIZES
from nnunetv2_tpmamba.networks.sam.models import VIT_B
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint

FILE_EXAMPLES = 400  # of each of the kinds of small files
WHOLE_MODEL_EXAMPLES = 40  # of each layout


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
TRAINING = {"epoch": 3, "model_state": {f"sam.{name}": x for name, x in STATE.items()}, "optimizer": {"state": {0: []}}}
KINDS = {
    "zip": (lambda folder: saved(STATE), anywhere),
    "pickle in zip": (lambda folder: saved(STATE), change_pickle),
    "old torch": (lambda folder: saved(STATE, is_zip=False), anywhere),
    "safetensors": (lambda folder: safetensors.torch.save(STATE), anywhere),
    "safetensors header": (lambda folder: safetensors.torch.save(STATE, {"format": "pt"}), change_header),
    "training in zip": (lambda folder: saved(TRAINING), change_pickle),
    "old training": (lambda folder: saved(TRAINING, is_zip=False), anywhere),
    "half precision": (lambda folder: safetensors.torch.save({n: x.bfloat16() for n, x in STATE.items()}), anywhere),
    "zip in zip": (lambda folder: zipped({"sam.pth": saved(STATE), "archive/data.pkl": saved(STATE)}), anywhere),
    "compressed zip": (lambda folder: zipped(unzipped(saved(STATE)), zipfile.ZIP_DEFLATED), anywhere),
    "malicious zip": (lambda folder: saved(STATE | {"a": MakeFolder(folder)}), change_pickle),
    "malicious training": (lambda folder: saved(TRAINING | {"optimizer": Evaluate(folder)}), change_pickle),
    "malicious old torch": (lambda folder: saved(STATE | {"a": Evaluate(folder)}, is_zip=False), anywhere),
    "malicious pickle": (lambda folder: pickle.dumps([Evaluate(folder), MakeFolder(folder)], protocol=2), anywhere),
    "malicious protocol 5": (lambda folder: pickle.dumps({"a": MakeFolder(folder)}, protocol=5), anywhere),
    "random zip": (lambda folder: b"PK\x03\x04" + bytes(200), after_magic),
    "random safetensors": (lambda folder: struct.pack("<Q", 40) + b"{" + bytes(200), after_magic),
    "empty": (lambda folder: b"", anywhere),
}


@pytest.fixture
def folder(tmp_path):
    with no_harm(tmp_path, {"sam.pth"}):
        yield tmp_path


def read_or_refuse(path, content, config=VIT_B.config):
    """The weights, if this is a whole encoder; else the message."""
    path.write_bytes(content)
    weights = message = None
    try:
        weights = read_sam_checkpoint(path, config)
    except (ValueError, OSError) as error:
        message = str(error)
    if weights is None:
        assert message.startswith(f"{path} ")
        assert f"; {OWN_SIZES if config is TINY else VIT_B.advice}" in message
        return message
    assert len(weights) == 3 + 14 * config.depth
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


@pytest.mark.parametrize("layout", ["timm", "transformers", "micro-sam's training"])
def test_damaged_whole_models_are_refused_or_read(layout, folder):
    state = {name: torch.full((1,), 0.5).expand(x.shape) for name, x in small_sam().state_dict().items()}
    content = saved(LAYOUTS[layout](state))
    assert not isinstance(read_or_refuse(folder / "sam.pth", content, TINY), str)

    @settings(max_examples=WHOLE_MODEL_EXAMPLES, **EXAMPLES)
    @given(damages(), st.sampled_from([anywhere, change_pickle]))
    def check(change, edit):
        read_or_refuse(folder / "sam.pth", edit(content, change), TINY)

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
def test_tensors_of_another_kind_are_refused(change, description, tiny_state, folder):
    bias = "image_encoder.blocks.0.norm1.bias"
    message = read_or_refuse(folder / "sam.pth", saved(tiny_state | {bias: change(tiny_state[bias])}))
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
