"""Reading SAM's file: both layouts give the same tensors, and anything else is refused with what it is."""

import os
import pickle
import shutil
import zipfile

import pytest
import safetensors.torch
import timm
import torch
from support.sam_files import stand_in, write_meta_checkpoint, write_timm_checkpoint
from support.sam_sources import TWO_WAYS

from nnunetv2_tpmamba.networks.sam.models import MODELS
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint, read_sam_checkpoint_of_any_size

REAL_CHECKPOINT = os.environ.get("TPMAMBA_SAM_CHECKPOINT", "")


@pytest.fixture(scope="session")
def meta_checkpoint(tmp_path_factory):
    path = write_meta_checkpoint(tmp_path_factory.mktemp("meta") / "sam_vit_b_01ec64.pth")
    yield path
    path.unlink()  # pytest keeps the folders of three runs


@pytest.fixture(scope="session")
def meta_weights(meta_checkpoint):
    return read_sam_checkpoint(meta_checkpoint)


# Reading


def test_reads_meta_layout_into_timms_encoder(meta_checkpoint, meta_weights):
    encoder = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0)
    encoder.neck = torch.nn.Identity()

    encoder.load_state_dict(meta_weights, strict=True)

    original = torch.load(meta_checkpoint, weights_only=True)
    loaded = encoder.state_dict()
    assert torch.equal(loaded["pos_embed"], original["image_encoder.pos_embed"])
    for i in range(12):
        ours, theirs = f"blocks.{i}.", f"image_encoder.blocks.{i}."
        assert torch.equal(loaded[ours + "mlp.fc1.weight"], original[theirs + "mlp.lin1.weight"])
        assert torch.equal(loaded[ours + "mlp.fc2.bias"], original[theirs + "mlp.lin2.bias"])
        assert torch.equal(loaded[ours + "attn.rel_pos_h"], original[theirs + "attn.rel_pos_h"])
        assert len(loaded[ours + "attn.rel_pos_w"]) == (127 if i in (2, 5, 8, 11) else 27)


@pytest.mark.parametrize(
    ("written", "named"), [("model.safetensors", "pytorch_model.bin"), ("pytorch_model.bin", "model.safetensors")]
)
def test_both_layouts_give_the_same_whatever_the_name(written, named, meta_weights, tmp_path):
    path = write_timm_checkpoint(tmp_path / written).rename(tmp_path / named)

    weights = read_sam_checkpoint(path)

    path.unlink()
    assert weights.keys() == meta_weights.keys()
    assert all(torch.equal(weights[key], meta_weights[key]) for key in weights)


def test_reads_half_precision_parameters_as_plain_float32(tiny_state, tmp_path):
    half = torch.full((1,), 0.5).half()
    state = {name: torch.nn.Parameter(half.expand(tensor.shape)) for name, tensor in tiny_state.items()}
    torch.save(state, tmp_path / "half.pth")

    weights = read_sam_checkpoint(tmp_path / "half.pth")

    assert {(tensor.dtype, tensor.requires_grad) for tensor in weights.values()} == {(torch.float32, False)}


def test_reads_the_old_torch_format(tiny_state, tmp_path):
    torch.save(tiny_state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)

    assert len(read_sam_checkpoint(tmp_path / "old.pth")) == 171


@pytest.mark.weights
def test_reads_the_real_file():
    assert read_sam_checkpoint(REAL_CHECKPOINT)["pos_embed"].std() > 0


# Refusing


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"none\.pth does not exist; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "none.pth")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"is a folder; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [4, 30, 100_000, 0.5, -1])
def test_a_truncated_file_of_meta_is_refused(kept, meta_checkpoint, tmp_path):
    size = meta_checkpoint.stat().st_size
    size = {0.5: size // 2, -1: size - 1}.get(kept, kept)
    path = tmp_path / "cut.pth"
    with meta_checkpoint.open("rb") as whole, path.open("wb") as cut:
        shutil.copyfileobj(whole, cut)
        cut.truncate(size)

    with pytest.raises(ValueError, match=rf"\({size} bytes\) is truncated or damaged .*; delete it; .*{TWO_WAYS}"):
        read_sam_checkpoint(path)
    path.unlink()


@pytest.mark.parametrize("kept", [10, 1000, -1])
def test_a_truncated_safetensors_file_is_refused(kept, tmp_path):
    content = safetensors.torch.save({"pos_embed": torch.zeros(1, 64, 64, 8), "norm": torch.zeros(8)})
    (tmp_path / "cut.safetensors").write_bytes(content[:kept])

    with pytest.raises(ValueError, match=rf"is truncated or damaged \(SafetensorError\); .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("kept", [2, 1000, -1])
def test_a_truncated_file_of_the_old_torch_format_is_refused(kept, tiny_state, tmp_path):
    torch.save(tiny_state, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:kept])

    with pytest.raises(ValueError, match="is truncated or damaged"):
        read_sam_checkpoint(tmp_path / "cut.pth")


def test_a_zip_file_that_torch_did_not_write_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "sam.pth", "w") as archive:
        archive.writestr("readme.txt", "weights follow")

    with pytest.raises(ValueError, match="is truncated or damaged"):
        read_sam_checkpoint(tmp_path / "sam.pth")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "sam.pth").touch()

    with pytest.raises(ValueError, match=rf"sam\.pth is empty; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "sam.pth")


@pytest.mark.parametrize("text", ["x", "<html>Log in to the guest network</html>", "version https://git-lfs..."])
def test_a_text_file_is_refused(text, tmp_path):
    (tmp_path / "sam.pth").write_text(text)

    with pytest.raises(ValueError, match=rf"is no checkpoint \(it begins with b'{text[:10]}.*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "sam.pth")


@pytest.mark.parametrize("wanted", MODELS.values())
@pytest.mark.parametrize("given", MODELS.values())
def test_each_size_is_read_for_its_trainer_and_refused_by_name_for_another(given, wanted, tmp_path):
    torch.save(stand_in(given), tmp_path / "sam.pth")
    if given is wanted:
        assert len(read_sam_checkpoint(tmp_path / "sam.pth", wanted.config)) == 3 + 14 * wanted.config.depth
        model, weights = read_sam_checkpoint_of_any_size(tmp_path / "sam.pth")
        assert model is given
        assert weights["pos_embed"].shape[-1] == given.config.embed_dim
        return
    ways = rf"a {wanted.title} file is needed: .*{wanted.meta_file}"
    with pytest.raises(ValueError, match=rf"sam\.pth is {given.title}, which is for -tr {given.trainer}; {ways}"):
        read_sam_checkpoint(tmp_path / "sam.pth", wanted.config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_encoder.cls_token": torch.zeros(1, 1, 768)}, "it has in addition 1 tensors, such as cls_token;"),
        ({"image_encoder.blocks.3.attn.rel_pos_h": None}, r"it lacks 1 tensors, such as blocks\.3\.attn\.rel_pos_h;"),
        (
            {"image_encoder.blocks.2.attn.rel_pos_h": torch.zeros(27, 64)},
            r"it has blocks\.2\.attn\.rel_pos_h of \(27, 64\) where \(127, 64\) is expected;",
        ),
        ({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768).int()}, r"it has pos_embed of torch\.int32 where"),
        ({"image_encoder.pos_embed": "text"}, "it has pos_embed of str where"),
    ],
)
def test_another_model_is_refused_with_what_differs(change, message, tiny_state, tmp_path):
    state = {name: value for name, value in (tiny_state | change).items() if value is not None}
    torch.save(state, tmp_path / "other.pth")

    with pytest.raises(ValueError, match=rf"is another model: {message} .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "other.pth")


def test_a_small_vit_is_another_model(tmp_path):
    safetensors.torch.save_file({"cls_token": torch.zeros(1, 1, 192)}, tmp_path / "model.safetensors")

    with pytest.raises(ValueError, match=r"lacks 171 tensors, such as .* and has in addition 1 tensors, such as cls_t"):
        read_sam_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [[torch.zeros(3)], {0: torch.zeros(3)}, torch.zeros(3)])
def test_a_file_without_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "list.pth")

    with pytest.raises(ValueError, match=rf"holds no state dict; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "list.pth")


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["zip", "old", "pickle"])
def test_malicious_file_is_not_executed(how, tiny_state, tmp_path):
    content = {"image_encoder.pos_embed": Payload(f"touch {tmp_path / 'executed'}")}
    if how == "pickle":
        (tmp_path / "sam.pth").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(tiny_state | content, tmp_path / "sam.pth", _use_new_zipfile_serialization=how == "zip")

    with pytest.raises(
        ValueError, match=rf"is refused: .* it holds (posix|nt)\.system, .*run code; .*{TWO_WAYS}"
    ) as info:
        read_sam_checkpoint(tmp_path / "sam.pth")

    assert not (tmp_path / "executed").exists()
    assert "weights_only" not in str(info.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(value, tiny_state, tmp_path):
    bias = torch.zeros(3072)
    bias[-1] = value
    torch.save(tiny_state | {"image_encoder.blocks.11.mlp.lin1.bias": bias}, tmp_path / "sam.pth")

    with pytest.raises(ValueError, match=rf"is damaged: blocks\.11\.mlp\.fc1\.bias .* not finite; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "sam.pth")
