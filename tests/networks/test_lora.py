"""LoRA changes q and v alone, and merges into one projection."""

import torch

from nnunetv2_tpmamba.networks.lora import LoRAQKV


def trained_lora(embed_dim=64, rank=8):
    lora = LoRAQKV(embed_dim, rank)
    for b in (lora.lora_b_q, lora.lora_b_v):
        torch.nn.init.normal_(b, std=0.1)
    return lora


def test_fresh_module_is_the_plain_projection():
    lora = LoRAQKV(16, rank=4)
    x = torch.randn(3, 5, 16)
    assert torch.equal(lora(x), torch.nn.functional.linear(x, lora.weight, lora.bias))


def test_changes_q_and_v_and_leaves_k():
    lora = trained_lora(16, rank=4)
    x = torch.randn(3, 16)
    q, k, v = (lora(x) - torch.nn.functional.linear(x, lora.weight, lora.bias)).chunk(3, dim=-1)
    torch.testing.assert_close(q, x @ (lora.lora_b_q @ lora.lora_a_q).T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(v, x @ (lora.lora_b_v @ lora.lora_a_v).T, rtol=1e-4, atol=1e-5)
    assert torch.all(k == 0)


def test_merged_for_evaluation_it_gives_the_same():
    lora = trained_lora()
    x = torch.randn(7, 64, requires_grad=True)
    results = []
    for mode in (True, False):
        y = lora.train(mode)(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, lora.lora_a_q, lora.lora_b_v])))
    for training, evaluation in zip(*results, strict=True):
        torch.testing.assert_close(evaluation, training, rtol=1e-5, atol=1e-4)


def test_evaluation_leaves_what_is_saved_alone():
    lora = trained_lora(16, rank=4)
    before = {name: x.clone() for name, x in lora.state_dict().items()}
    lora.eval()(torch.randn(2, 16))
    assert lora.state_dict().keys() == before.keys()
    assert all(torch.equal(lora.state_dict()[name], x) for name, x in before.items())


def test_evaluation_follows_a_change_of_the_weights():
    lora = trained_lora(16, rank=4).eval()
    x = torch.randn(2, 16)
    before = lora(x)
    torch.nn.init.zeros_(lora.lora_b_q)
    assert not torch.equal(lora(x), before)


def test_a_plain_state_dict_loads_by_its_own_names():
    plain = torch.nn.Linear(16, 48)
    lora = LoRAQKV(16, rank=4)
    result = lora.load_state_dict(plain.state_dict(), strict=False)
    assert set(result.missing_keys) == {"lora_a_q", "lora_b_q", "lora_a_v", "lora_b_v"}
    assert result.unexpected_keys == []
    x = torch.randn(2, 16)
    assert torch.equal(lora(x), plain(x))


def test_under_autocast_one_cast_of_the_input_is_kept():
    lora, x = trained_lora(64, rank=4), torch.randn(9, 64, requires_grad=True)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        y = lora(1 * x)  # a leaf would be cast once in any way
    y.float().sum().backward()
    assert sum(t.shape == x.shape for t in {t.data_ptr(): t for t in kept}.values()) == 1
