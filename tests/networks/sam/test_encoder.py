"""The encoder against its two peers: the segment_anything package and timm, with the same random weights."""

from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT
from support.sam_files import write_meta_checkpoint, write_timm_checkpoint

from nnunetv2_tpmamba.networks.sam.encoder import SamEncoder, build_encoder
from nnunetv2_tpmamba.networks.sam.layouts import remap_to_timm
from nnunetv2_tpmamba.networks.sam.models import MODELS
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint


@pytest.fixture(scope="module")
def meta_file(tmp_path_factory):
    path = write_meta_checkpoint(tmp_path_factory.mktemp("sam") / "sam_vit_b.pth", seed=3)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory):
    path = write_timm_checkpoint(tmp_path_factory.mktemp("sam") / "model.safetensors", seed=3)
    yield path
    path.unlink()


def encoder_from(path):
    encoder = SamEncoder().eval()
    encoder.load_state_dict(read_sam_checkpoint(path))
    return encoder


def features_by_hook(blocks, forward):
    features = []
    hooks = [block.register_forward_hook(lambda module, args, out: features.append(out)) for block in blocks]
    forward()
    for hook in hooks:
        hook.remove()
    return features


def assert_same_features(ours, theirs):
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert (a - b).norm() / b.norm() < 1e-4, f"block {i}"
        assert (a - b).abs().max() < 1e-4 * b.abs().max(), f"block {i}"


@torch.no_grad()
def test_features_equal_segment_anythings_at_1024_pixels(meta_file):
    image = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    peer = sam_model_registry["vit_b"](checkpoint=str(meta_file)).image_encoder.eval()
    assert peer.blocks[0].attn.rel_pos_h.abs().min() > 0  # else the position terms would go untested
    theirs = features_by_hook(peer.blocks, lambda: peer(image))
    assert_same_features(encoder_from(meta_file)(image), theirs)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(192, 192), (96, 96), (192, 320)])
def test_features_equal_timms(timm_file, shape):
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    peer = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0).eval()
    peer.load_state_dict(read_sam_checkpoint(timm_file), strict=False)
    theirs = features_by_hook(peer.blocks, lambda: peer.forward_features(images))
    assert_same_features(encoder_from(timm_file)(images), theirs)


@torch.no_grad()
def test_both_layouts_give_the_same_features(meta_file, timm_file):
    images = torch.rand(1, 3, 96, 96)
    for a, b in zip(encoder_from(meta_file)(images), encoder_from(timm_file)(images), strict=True):
        assert torch.equal(a, b)


@pytest.fixture(scope="module", params=MODELS.values())
def encoders(request):
    """Segment_anything's encoder of a size and ours, both without numbers."""
    with torch.device("meta"):
        return sam_model_registry[request.param.name]().image_encoder, build_encoder(request.param.config)


def test_each_size_has_segment_anythings_tensors(encoders):
    theirs, ours = ({name: x.shape for name, x in encoder.state_dict().items()} for encoder in encoders)
    assert ours == remap_to_timm(theirs)


def test_the_blocks_that_attend_globally_are_segment_anythings(encoders):
    theirs, ours = encoders
    assert [block.window_size for block in ours.blocks] == [block.window_size for block in theirs.blocks]
    assert [block.attn.num_heads for block in ours.blocks] == [block.attn.num_heads for block in theirs.blocks]


@pytest.mark.parametrize("norm", ["norm1", "norm2"])
def test_tokens_of_little_variance_are_normalised_as_in_segment_anything(encoders, norm):
    """A variance of 1e-6, where an epsilon of 1e-5 gives less than half."""
    tokens = 1e-3 * torch.randn(5, 768, generator=torch.Generator().manual_seed(0))
    for theirs, ours in zip(*(encoder.blocks for encoder in encoders), strict=True):
        expected, actual = (
            torch.nn.functional.layer_norm(tokens, (768,), eps=block.get_submodule(norm).eps)
            for block in (theirs, ours)
        )
        torch.testing.assert_close(actual, expected)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    "reduced",
    [
        {"encoder_image_size": 192},  # whole, on the paper's grid, where every window is cut off by the edge
        {"depth": 2, "global_attn_indexes": (1,)},  # a block with whole windows and a global one, at 1024 pixels
    ],
    ids=["whole", "two blocks at 1024 pixels"],
)
@pytest.mark.parametrize("model", [MODELS["vit_l"], MODELS["vit_h"]], ids=lambda model: model.name)
def test_features_of_the_larger_sizes_equal_segment_anythings(model, reduced):
    config = replace(model.config, **reduced)
    torch.manual_seed(0)
    peer = ImageEncoderViT(
        img_size=config.encoder_image_size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=config.window_size,
        global_attn_indexes=config.global_attn_indexes,
    ).eval()
    for name, parameter in peer.named_parameters():
        if "pos_embed" in name or "rel_pos" in name:  # zero in a fresh model
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.device("meta"):
        ours = build_encoder(config).eval()
    ours.load_state_dict(remap_to_timm(peer.state_dict()), assign=True)  # one copy of the weights for both
    image = torch.rand(1, 3, config.encoder_image_size, config.encoder_image_size)
    assert_same_features(ours(image), features_by_hook(peer.blocks, lambda: peer(image)))


@torch.no_grad()
def test_images_do_not_see_each_other():
    encoder = SamEncoder(embed_dim=32, depth=4, num_heads=2, window_size=3, global_attn_indexes=(1, 3), image_size=96)
    images = torch.rand(3, 3, 64, 80)
    for together, alone in zip(encoder(images), encoder(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)
