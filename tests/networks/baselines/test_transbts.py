"""TransBTS: its sizes are its authors', and its parts equal plain computations."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_tpmamba.networks.baselines.transbts import (
    TransBTS,
    Transformer,
    UpCat,
    build_transbts,
    encoder_block,
)

SMALLEST = (16, 16, 16)
SIZES = {
    "features_per_stage": (8, 16, 16, 24),
    "blocks_per_stage": (1, 1, 2, 1),
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "mlp_dim": 24,
}


@pytest.fixture
def small():
    torch.manual_seed(0)
    return TransBTS(1, 3, SMALLEST, **SIZES)


def test_the_papers_network_has_the_known_size():
    with torch.device("meta"):
        network = build_transbts(1, 14, (96, 96, 96))
        with FlopCounterMode(display=False) as counter:
            assert network(torch.empty(1, 1, 96, 96, 96)).shape == (1, 14, 96, 96, 96)
    final_norm, linear = 2 * 512, 128 * 512 + 512  # in the authors' network; its output does not depend on them
    count = sum(p.numel() for p in network.parameters())
    assert count == 31_510_366
    assert count + final_norm + linear == 31_577_438
    assert counter.get_total_flops() / 2e9 == pytest.approx(119.5, abs=0.05)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_batch_of_one_gives_every_parameter_a_gradient(channels):
    network = TransBTS(channels, 3, SMALLEST, **SIZES)
    output = network(torch.rand(1, channels, *SMALLEST))
    output.logsumexp(1).square().mean().backward()
    assert output.shape == (1, 3, *SMALLEST)
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_an_encoder_block_adds_to_its_input_what_it_makes_of_it():
    block = encoder_block(8)
    norm1, _, conv1, norm2, _, conv2 = block
    x = torch.randn(2, 8, 3, 4, 5)
    y = conv1(F.relu(F.group_norm(x, 8, norm1.weight, norm1.bias)))
    y = conv2(F.relu(F.group_norm(y, 8, norm2.weight, norm2.bias)))
    torch.testing.assert_close(block(x), x + y)


def test_a_step_of_the_decoder_equals_a_plain_computation():
    step = UpCat(6, 4).eval()
    x, skip = torch.randn(2, 6, 2, 3, 4), torch.randn(2, 4, 4, 6, 8)
    (narrow, enlarge), (merge, residual) = step.enlarge, step.merge
    y = F.conv3d(x, narrow.weight, narrow.bias)
    y = F.conv_transpose3d(y, enlarge.weight, enlarge.bias, stride=2)
    y = F.conv3d(torch.cat((skip, y), 1), merge.weight, merge.bias)
    z = y
    for conv, norm in ((residual[0], residual[1]), (residual[3], residual[4])):
        z = F.conv3d(z, conv.weight, conv.bias, padding=1)
        z = F.relu(F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias))
    torch.testing.assert_close(step(x, skip), y + z)


def test_a_layer_of_the_transformer_equals_a_plain_computation():
    B, L, C, heads = 2, 5, 12, 3
    transformer = Transformer(L, C, depth=1, num_heads=heads, mlp_dim=20, dropout=0.1).eval()
    nn.init.normal_(transformer.positions)
    tokens = torch.randn(B, L, C)
    (norm1, attention), (norm2, mlp) = transformer[1]

    x = tokens + transformer.positions
    q, k, v = (norm1(x) @ attention.qkv.weight.T).view(B, L, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
    read = ((q @ k.mT / (C // heads) ** 0.5).softmax(-1) @ v).transpose(1, 2).reshape(B, L, C)
    x = x + attention.proj(read)
    x = x + mlp.fc2(F.gelu(mlp.fc1(norm2(x))))
    torch.testing.assert_close(transformer(tokens), x)


def test_positions_start_at_zero_and_tell_tokens_apart():
    """Without positions the order of the tokens does not matter to a transformer."""
    transformer = Transformer(6, 8, depth=2, num_heads=2, mlp_dim=16, dropout=0.0)
    tokens, order = torch.randn(1, 6, 8), torch.tensor([3, 1, 0, 5, 4, 2])
    assert not transformer.positions.any()
    torch.testing.assert_close(transformer(tokens[:, order]), transformer(tokens)[:, order])
    nn.init.normal_(transformer.positions)
    assert not torch.allclose(transformer(tokens[:, order]), transformer(tokens)[:, order], atol=0.1)


def test_dropout_is_the_authors_in_training_and_none_in_evaluation(small):
    layer = small.transformer[1]
    attention, mlp = layer[0][1], layer[1][1]
    assert (small.stages[0][0][1].p, small.transformer[0].p, attention.attn_drop.p) == (0.2, 0.1, 0.1)
    assert (mlp.drop1.p, mlp.drop2.p) == (0.1, 0.1)
    assert 1 - attention.proj_drop.p == pytest.approx(0.9 * 0.9)
    image = torch.rand(1, 1, *SMALLEST)
    assert not torch.equal(small(image), small(image))
    small.eval()
    assert torch.equal(small(image), small(image))


def test_it_compiles_to_one_graph(small):
    image = torch.rand(1, 1, *SMALLEST)
    small.eval()  # no dropout
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), small(image))


def test_intensities_of_thousands_are_finite_under_fp16(small):
    with torch.autocast("cpu", dtype=torch.float16):
        output = small(5e3 * torch.randn(1, 1, *SMALLEST))
        output.log_softmax(1)[:, 0].mean().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize(
    ("patch_size", "good"), [((96, 96, 64), (96, 96, 96)), ((20, 20, 20), (16, 16, 16)), ((8, 8, 8), (16, 16, 16))]
)
def test_a_patch_it_cannot_take_is_refused(patch_size, good):
    needed = "the sides must be equal and multiples of 8 and at least 16"
    message = f"patch size {patch_size}: {needed}; set patch_size to e.g. {good}"
    with pytest.raises(ValueError, match=re.escape(message)):
        build_transbts(1, 2, patch_size)


def test_a_volume_of_another_size_is_refused(small):
    message = r"volume of \(16, 16, 24\) voxels: .* patches of \(16, 16, 16\); give it such patches"
    with pytest.raises(ValueError, match=message):
        small(torch.rand(1, 1, 16, 16, 24))
