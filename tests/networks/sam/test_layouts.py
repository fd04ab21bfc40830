"""One encoder in every layout gives one network: the same tensors, and so the same features."""

import re

import pytest
import safetensors.torch
import torch
from support.configs import TINY
from support.sam_layouts import LAYOUTS, bare, small_sam, state_of_optimizer, timms, transformers_names, with_prefix

from nnunetv2_tpmamba.networks.sam.encoder import build_encoder
from nnunetv2_tpmamba.networks.sam.errors import OWN_SIZES
from nnunetv2_tpmamba.networks.sam.layouts import remap_to_timm
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint

IMAGES = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def sam():
    return small_sam().eval()


@pytest.fixture
def saved(tmp_path):
    """Save a content and return the file."""

    def save(content, name="sam.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@torch.no_grad()
def features_of(file, images=IMAGES):
    encoder = build_encoder(TINY).eval()
    encoder.load_state_dict(read_sam_checkpoint(file, TINY))
    return encoder(images)


def features_by_hook(blocks, forward):
    """What each block returns; transformers' return a tuple in some versions."""
    features = []
    hooks = [block.register_forward_hook(lambda module, args, out: features.append(out)) for block in blocks]
    with torch.no_grad():
        forward()
    for hook in hooks:
        hook.remove()
    return [out[0] if isinstance(out, tuple) else out for out in features]


def assert_same(ours, theirs):
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max(), f"block {i}"


def test_metas_layout_gives_the_features_of_segment_anything(sam, saved):
    images = torch.rand(2, 3, 96, 96)  # segment_anything takes only the size that its position terms are made for
    theirs = features_by_hook(sam.image_encoder.blocks, lambda: sam.image_encoder(images))
    for ours, wanted in zip(features_of(saved(sam.state_dict()), images), theirs, strict=True):
        assert (ours - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_features_of_the_plain_file(layout, sam, saved):
    plain = features_of(saved(sam.state_dict()))
    assert_same(features_of(saved(LAYOUTS[layout](sam.state_dict()))), plain)


@pytest.mark.parametrize("make", [dict, bare, timms, lambda state: transformers_names(bare(state))])
def test_safetensors_with_metadata_give_the_same_whatever_the_name(make, sam, saved, tmp_path):
    file = tmp_path / "weights.bin"
    tensors = {name: x.contiguous() for name, x in make(sam.state_dict()).items()}
    safetensors.torch.save_file(tensors, file, {"format": "pt", "licence": "Apache-2.0"})
    assert_same(features_of(file), features_of(saved(sam.state_dict())))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(dtype, sam, saved, tmp_path):
    state = {name: x.to(dtype) for name, x in sam.state_dict().items()}
    rounded = {name: x.float() for name, x in state.items()}
    safetensors.torch.save_file(state, tmp_path / "sam.safetensors")
    for file in saved(state), tmp_path / "sam.safetensors":
        weights = read_sam_checkpoint(file, TINY)
        assert {x.dtype for x in weights.values()} == {torch.float32}
        assert all(torch.equal(weights[name], x) for name, x in remap_to_timm(rounded).items())


@pytest.fixture(scope="module")
def transformers_sam():
    """The model of Hugging Face's package with random weights."""
    from transformers import SamConfig, SamModel, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=TINY.embed_dim,
        num_hidden_layers=TINY.depth,
        num_attention_heads=TINY.num_heads,
        image_size=TINY.encoder_image_size,
        window_size=TINY.window_size,
        global_attn_indexes=list(TINY.global_attn_indexes),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SamModel(SamConfig(vision_config=vision)).eval()
        for name, parameter in model.vision_encoder.named_parameters():
            if "pos" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("prefix", ["vision_encoder.", ""])
def test_what_transformers_saves_gives_the_features_of_transformers(prefix, transformers_sam, tmp_path):
    images = torch.rand(2, 3, 96, 96)
    encoder = transformers_sam.vision_encoder
    theirs = features_by_hook(encoder.layers, lambda: encoder(images))
    if prefix:
        transformers_sam.save_pretrained(tmp_path)
    else:
        safetensors.torch.save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    for ours, wanted in zip(features_of(tmp_path / "model.safetensors", images), theirs, strict=True):
        assert (ours - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_transformers_names_are_those_of_the_package(sam, transformers_sam):
    ours = {name for name in transformers_names(bare(sam.state_dict())) if ".neck." not in name}
    theirs = {name for name in transformers_sam.state_dict() if name.startswith("vision_") and ".neck." not in name}
    assert ours == theirs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_without_one_tensor_is_refused(layout, sam, saved):
    """Never a part of an encoder."""
    state = sam.state_dict()
    del state["image_encoder.blocks.2.mlp.lin1.bias"]
    if layout == "timm":
        state = timms(sam.state_dict())
        del state["blocks.2.mlp.fc1.bias"]
    content = state if layout == "timm" else LAYOUTS[layout](state)
    with pytest.raises(ValueError, match=rf"lacks 1 tensors, such as blocks\.2\.mlp\.fc1\.bias; {OWN_SIZES}"):
        read_sam_checkpoint(saved(content), TINY)


def test_remapping_changes_no_layout_twice(sam):
    once = remap_to_timm(sam.state_dict())
    assert remap_to_timm(once) == once
    assert not any(re.match(r"image_encoder\.|prompt_encoder\.|neck\.", name) for name in once)


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda state: state | with_prefix("teacher.", state),
            r"several encoders, whose names begin with 'image_encoder\.' and 'teacher\.image_encoder\.'",
        ),
        (lambda state: {"model": state, "ema": state}, "several encoders, in its entries 'model' and 'ema'"),
        (lambda state: state | timms_in_meta(state), r"blocks\.0\.mlp\.fc1\.weight twice, in two layouts"),
    ],
)
def test_two_encoders_are_refused(make, message, sam, saved):
    with pytest.raises(ValueError, match=rf"holds {message}; save the one you want alone; {OWN_SIZES}"):
        read_sam_checkpoint(saved(make(sam.state_dict())), TINY)


def timms_in_meta(state):
    return {"image_encoder.blocks.0.mlp.fc1.weight": state["image_encoder.blocks.0.mlp.lin1.weight"]}


def lora(state):
    """SAMed's file: its LoRA, and of SAM all but the encoder."""
    rest = {name: x for name, x in state.items() if not name.startswith("image_encoder.")}
    return {"w_a_000": torch.ones(4, 32), "w_b_000": torch.ones(32, 4)} | rest


def masam(state):
    """MA-SAM's file: FacT and adapters, and of SAM all but the encoder."""
    block = "image_encoder.ImageEncoderViT.blocks.0.Block"
    return {"q_FacTs_000": torch.ones(4, 4), f"{block}.adapter_norm.weight": torch.ones(32)} | lora(state)


def peft(state):
    return {"base_model.model.vision_encoder.layers.0.attn.qkv.lora_A.weight": torch.ones(4, 32)}


def adapted(state):
    adapters = {"image_encoder.blocks.0.Adapter.channel.0.weight": torch.ones(8, 32)}
    return state | adapters


def med2d(state):
    return adapted(state | {"image_encoder.pos_embed": torch.zeros(1, 16, 16, 32)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lora, r"holds adapters, such as w_a_000, and not the encoder that they were trained on; merge them"),
        (masam, r"holds adapters, such as image_encoder\.\S+\.adapter_norm\.weight, and not the encoder"),
        (peft, r"holds adapters, such as base_model\.\S+\.lora_A\.weight, and not the encoder"),
        (lambda state: {"state_dict": lora(state), "epoch": 1}, "holds adapters, such as w_a_000, and not the encoder"),
        (adapted, r"is an encoder with adapters in it, such as blocks\.0\.Adapter\.channel\.0\.weight; merge them"),
        (
            med2d,
            r"has a position grid of 16 x 16 where 6 x 6 is expected, and adapters such as blocks\.0\.Adapter\S+: "
            "SAM-Med2D, for example, has both",
        ),
        (
            lambda state: {"image_encoder.pos_embed": torch.zeros(1, 16, 16, 32)},
            "has a position grid of 16 x 16 where 6 x 6 is expected",
        ),
        (
            lambda state: {
                "image_encoder.trunk.pos_embed": torch.zeros(1, 144, 7, 7),
                "image_encoder.trunk.pos_embed_window": torch.zeros(1, 144, 8, 8),
            },
            "is SAM 2, whose encoder is a Hiera",
        ),
        (
            lambda state: {"image_encoder.layers.1.blocks.0.local_conv.c.weight": torch.zeros(8)},
            "is a SAM with a TinyViT, such as MobileSAM",
        ),
        (lambda state: {"optimizer": state_of_optimizer(), "epoch": 1}, "is another model: it lacks 59 tensors"),
    ],
)
def test_what_is_no_encoder_is_called_what_it_is(make, message, sam, saved):
    with pytest.raises(ValueError, match=rf"sam\.pth {message}.*; {OWN_SIZES}"):
        read_sam_checkpoint(saved(make(sam.state_dict())), TINY)


def test_a_pickled_optimizer_is_refused_with_three_lines_that_help(sam, saved, tmp_path, monkeypatch):
    """SAM-Med2D's training saves the optimizer itself; the lines do what they say."""
    state = sam.state_dict()
    file = saved({"model": state, "optimizer": torch.optim.Adam(sam.parameters())})
    with pytest.raises(ValueError, match=rf"it holds torch\.optim\.adam\.Adam, .*run code; {OWN_SIZES}") as info:
        read_sam_checkpoint(file, TINY)

    lines = [line.strip() for line in str(info.value).splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines))
    assert_same(features_of(tmp_path / "sam_weights.pth"), features_of(saved(state)))
