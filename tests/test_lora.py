import torch

from nnunetv2_tpmamba.lora import LoRAQKV


def test_fresh_module_is_the_plain_projection():
    lora = LoRAQKV(16, rank=4)
    x = torch.randn(3, 5, 16)
    assert torch.equal(lora(x), torch.nn.functional.linear(x, lora.weight, lora.bias))


def test_changes_q_and_v_and_leaves_k():
    lora = LoRAQKV(16, rank=4)
    plain = lora.merged()
    torch.nn.init.normal_(lora.lora_b_q)
    torch.nn.init.normal_(lora.lora_b_v)
    x = torch.randn(3, 16)
    q, k, v = (lora(x) - plain(x)).chunk(3, dim=-1)
    torch.testing.assert_close(q, x @ (lora.lora_b_q @ lora.lora_a_q).T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(v, x @ (lora.lora_b_v @ lora.lora_a_v).T, rtol=1e-4, atol=1e-5)
    assert torch.all(k == 0)


def test_merged_equals_unmerged():
    lora = LoRAQKV(64, rank=8)
    for b in (lora.lora_b_q, lora.lora_b_v):
        torch.nn.init.normal_(b, std=0.1)
    x = torch.randn(7, 64)
    merged = lora.merged()
    assert type(merged) is torch.nn.Linear
    torch.testing.assert_close(merged(x), lora(x), rtol=1e-5, atol=1e-5)


def test_merging_leaves_the_module_alone():
    lora = LoRAQKV(16, rank=4)
    before = {name: x.clone() for name, x in lora.state_dict().items()}
    lora.merged().weight.data.zero_()
    assert all(torch.equal(lora.state_dict()[name], x) for name, x in before.items())


def test_a_plain_state_dict_loads_by_its_own_names():
    plain = torch.nn.Linear(16, 48)
    lora = LoRAQKV(16, rank=4)
    result = lora.load_state_dict(plain.state_dict(), strict=False)
    assert set(result.missing_keys) == {"lora_a_q", "lora_b_q", "lora_a_v", "lora_b_v"}
    assert result.unexpected_keys == []
    x = torch.randn(2, 16)
    assert torch.equal(lora(x), plain(x))
