"""The shortcut against timm's own block, on the same weights: output and every gradient, for every kind of grid."""

from functools import partial

import pytest
import torch
from timm.models.vision_transformer_sam import Block

from nnunetv2_tpmamba.networks.device import counted_for
from nnunetv2_tpmamba.networks.lora import LoRAQKV
from nnunetv2_tpmamba.networks.sam import window_attention
from nnunetv2_tpmamba.networks.sam.window_attention import SamBlock

DIM, HEADS = 16, 2


def random_block(window_size=14, lora=False, seed=0):
    torch.manual_seed(seed)
    block = SamBlock(
        DIM,
        HEADS,
        use_rel_pos=True,
        window_size=window_size,
        input_size=(6, 6),
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    if lora:
        block.attn.qkv = LoRAQKV(DIM, rank=4)
    for parameter in block.parameters():  # no zeros, and position terms that matter
        torch.nn.init.normal_(parameter, std=0.5)
    return block


def output_and_gradients(forward, block, tokens):
    tokens = tokens.clone().requires_grad_()
    output = forward(tokens)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    trained = [p for p in block.parameters() if p.requires_grad]
    return [output, *torch.autograd.grad(output, [tokens, *trained], cotangent)]


def assert_equal(block, tokens):
    expected = output_and_gradients(partial(Block.forward, block), block, tokens)
    for actual, wanted in zip(output_and_gradients(block, block, tokens), expected, strict=True):
        assert (actual - wanted).norm() <= 1e-5 * wanted.norm() + 1e-12


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("h", range(1, 21))
def test_equals_timm_on_every_grid(h, lora):
    """Up to 20 x 20: one window cut off, whole, and several with the last ones cut off."""
    block = random_block(lora=lora).double()  # in float32 a gradient that nearly cancels has errors of its own
    for w in range(1, 21):
        assert_equal(block, torch.randn(2, h, w, DIM, dtype=torch.float64))


@pytest.mark.parametrize("grid", [(12, 12), (6, 6), (14, 14), (15, 3), (20, 20)])
@pytest.mark.parametrize("lora", [False, True])
def test_equals_timm_in_float32(grid, lora):
    assert_equal(random_block(lora=lora), torch.randn(2, *grid, DIM))


@pytest.mark.parametrize("grid", [(1, 1), (6, 6), (5, 9), (20, 3)])
def test_equals_timm_in_blocks_that_attend_globally(grid):
    assert_equal(random_block(window_size=0).double(), torch.randn(2, *grid, DIM, dtype=torch.float64))


@pytest.mark.parametrize("window_size", [1, 3, 5])
def test_equals_timm_for_other_windows(window_size):
    for grid in (1, 7), (3, 3), (5, 11):
        assert_equal(random_block(window_size).double(), torch.randn(2, *grid, DIM, dtype=torch.float64))


@pytest.mark.parametrize(("grid", "window_size"), [((6, 6), 14), ((9, 9), 0), ((17, 5), 14)])
def test_slices_taken_in_parts_give_the_same(monkeypatch, grid, window_size):
    block = random_block(window_size, lora=True).double()
    tokens = torch.randn(7, *grid, DIM, dtype=torch.float64)
    whole = output_and_gradients(block, block, tokens)
    monkeypatch.setattr(window_attention, "VALUES_AT_A_TIME", 2 * tokens[0].numel())
    for part, expected in zip(output_and_gradients(block, block, tokens), whole, strict=True):
        torch.testing.assert_close(part, expected)
    with torch.no_grad():
        torch.testing.assert_close(block(tokens), whole[0])
        assert block(tokens[:0]).shape == (0, *grid, DIM)


def test_its_two_halves_are_the_block(monkeypatch):
    block = random_block(lora=True)
    tokens = torch.randn(5, 6, 6, DIM)
    monkeypatch.setattr(window_attention, "VALUES_AT_A_TIME", 2 * tokens[0].numel())
    halves = output_and_gradients(lambda tokens: block.feed_forward(block.attend(tokens)), block, tokens)
    for half, whole in zip(halves, output_and_gradients(block, block, tokens), strict=True):
        torch.testing.assert_close(half, whole)
    with torch.no_grad():
        assert torch.equal(block.attend(tokens) + block.mlp(block.norm2(block.attend(tokens))), block(tokens))


def test_no_scores_are_kept_for_the_backward_pass():
    n, h, w = 3, 12, 12
    kept = []
    block = random_block(lora=True)
    block.requires_grad_(False)
    block.attn.qkv.lora_a_q.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        block(torch.randn(n, h, w, DIM, requires_grad=True))
    scores = n * HEADS * (h * w) ** 2
    assert max(kept) < scores / 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_costs_only_its_own_precision(dtype):
    block = random_block(lora=True)
    tokens = torch.randn(2, 12, 12, DIM)
    expected = block(tokens)
    with torch.autocast("cpu", dtype=dtype):
        lower = block(tokens)
        peers = Block.forward(block, tokens)
    assert (lower - expected).norm() < 2 * (peers - expected).norm()


@pytest.mark.parametrize("lora", [False, True])
def test_a_cpu_computes_extended_queries_and_keys_again_instead_of_keeping_them(monkeypatch, lora):
    """Not in a step that stands for a GPU's."""
    block, tokens = random_block(lora=lora), torch.randn(2, 12, 12, DIM)
    kept, results = [], []
    for smallest, device_type in ((2**30, "cpu"), (1, "cpu"), (1, "cuda"), (1, "mps")):
        monkeypatch.setattr(window_attention, "MANY_VALUES", smallest)
        kept.append(0)

        def count(x):
            kept[-1] += x.nbytes
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x), counted_for(device_type):
            results.append(output_and_gradients(block, block, tokens))
    assert kept[1] < 0.7 * kept[0]
    assert kept[2] == kept[3] == kept[0]
    assert all(a.equal(b) for a, b in zip(results[0], results[1], strict=True))
