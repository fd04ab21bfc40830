"""The adapter: which tokens each plane and each convolution connects."""

import pytest
import torch

from nnunetv2_tpmamba.networks.triplane import PLANES, DepthConv, PlaneMamba, TriPlaneMamba


def adapter_that_does_something(**sizes):
    torch.manual_seed(0)
    adapter = TriPlaneMamba(16, hidden_dim=8, **sizes)
    torch.nn.init.normal_(adapter.widen.weight)
    return adapter


@pytest.mark.parametrize("shape", [(2, 5, 3, 4, 16), (1, 1, 2, 2, 16), (1, 7, 1, 1, 16), (1, 1, 1, 1, 16)])
def test_is_identity_at_init(shape):
    tokens = torch.randn(shape)
    assert torch.equal(TriPlaneMamba(16, hidden_dim=8)(tokens), tokens)


@pytest.mark.parametrize("plane", PLANES)
def test_plane_mixes_exactly_its_two_axes(plane):
    torch.manual_seed(0)
    module = PlaneMamba(plane, 8)
    tokens = torch.randn(2, 4, 5, 6, 8, requires_grad=True)  # (b, D, h, w, c)
    at = {"b": 1, "d": 2, "h": 3, "w": 4}
    # a causal scan's last token sees all the others of its sequence
    last = {"b": 1, "d": 3 if "d" in plane else 2, "h": 4 if "h" in plane else 3, "w": 5 if "w" in plane else 4}
    output = module(tokens)[last["b"], last["d"], last["h"], last["w"]]
    gradient = torch.autograd.grad((output * torch.randn(8)).sum(), tokens)[0].abs().sum(-1) > 0
    expected = torch.zeros(2, 4, 5, 6, dtype=torch.bool)
    where = tuple(slice(None) if axis in plane else at[axis] for axis in "bdhw")
    expected[where] = True
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("plane", PLANES)
def test_plane_equals_its_mamba_on_each_sequence(plane):
    torch.manual_seed(0)
    module = PlaneMamba(plane, 8)
    tokens = torch.randn(1, 3, 4, 5, 8)
    d, i, j = 1, 2, 3
    sequence, where = {
        "hw": (tokens[0, d].reshape(-1, 8), lambda out: out[0, d].reshape(-1, 8)),
        "dw": (tokens[0, :, i].reshape(-1, 8), lambda out: out[0, :, i].reshape(-1, 8)),
        "dh": (tokens[0, :, :, j].reshape(-1, 8), lambda out: out[0, :, :, j].reshape(-1, 8)),
    }[plane]
    expected = torch.nn.functional.gelu(module.norm(module.mamba(sequence[None])[0]))
    torch.testing.assert_close(where(module(tokens)), expected)


def test_planes_are_summed():
    """Equation 3: with the others silenced, what remains of the sum is one plane's reading."""
    adapter = adapter_that_does_something()
    tokens = torch.randn(1, 4, 3, 3, 16)
    contributions = []
    for plane in PLANES:
        for other, module in adapter.planes.items():
            module.norm.weight.data.fill_(float(other == plane))  # a zero layer norm and GELU give zero
        contributions.append(adapter.widen(_sum_of_planes(adapter, tokens)))
    for module in adapter.planes.values():
        module.norm.weight.data.fill_(1.0)
    together = adapter(tokens) - tokens
    torch.testing.assert_close(together, sum(contributions).permute(0, 2, 3, 4, 1), rtol=1e-4, atol=1e-5)


def _sum_of_planes(adapter, tokens):
    seen = []
    hook = adapter.widen.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    adapter(tokens)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e7])
def test_tokens_of_any_size_are_read_alike_under_fp16(scale):
    """SAM's tokens exceed 65504, the largest number of fp16; instance norm takes their scale away."""
    adapter = adapter_that_does_something()
    tokens = torch.randn(1, 4, 3, 3, 16)
    expected = _sum_of_planes(adapter, tokens)
    with torch.autocast("cpu", dtype=torch.float16):
        actual = _sum_of_planes(adapter, scale * tokens)
    assert (actual - expected).norm() < 0.02 * expected.norm()


def test_every_token_sees_every_other_through_depth_rows_and_columns():
    adapter = adapter_that_does_something()
    tokens = torch.randn(1, 5, 4, 4, 16, requires_grad=True)
    gradient = torch.autograd.grad(adapter(tokens)[0, -1, -1, -1].sum(), tokens)[0].abs().sum(-1)[0] > 0
    # in the plane of the slice, of the row and of the column of the last token
    assert gradient[-1].all()
    assert gradient[:, -1].all()
    assert gradient[:, :, -1].all()


def test_batch_of_two_is_two_batches_of_one():
    adapter = adapter_that_does_something()
    tokens = torch.randn(2, 4, 3, 3, 16)
    torch.testing.assert_close(
        adapter(tokens), torch.cat([adapter(tokens[:1]), adapter(tokens[1:])]), rtol=1e-4, atol=1e-5
    )


def test_slices_are_not_confused_with_rows_and_columns():
    """Swapping h and w of the input and the planes that read them swaps them in the output, and nothing else."""
    adapter = adapter_that_does_something()
    twin = adapter_that_does_something()
    for plane, other in ("dw", "dh"), ("dh", "dw"):
        twin.planes[plane].load_state_dict(adapter.planes[other].state_dict())
    del adapter.planes["hw"], twin.planes["hw"]  # its sequence order is not symmetric
    tokens = torch.randn(1, 4, 3, 5, 16)
    torch.testing.assert_close(twin(tokens.transpose(2, 3)), adapter(tokens).transpose(2, 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2, 4, 8])
def test_depth_conv_reads_three_slices_at_its_dilation(dilation):
    conv = DepthConv(2, 2, dilation)[0]
    x = torch.randn(1, 2, 20, 3, 3, requires_grad=True)
    gradient = torch.autograd.grad(conv(x)[0, 0, 10, 1, 1], x)[0].abs().sum((0, 1)) > 0
    expected = torch.zeros(20, 3, 3, dtype=torch.bool)
    expected[[10 - dilation, 10, 10 + dilation], 1, 1] = True
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("dilations", [(1, 2, 4, 8), (3, 1)])
def test_parallel_depth_convs_read_at_the_dilations_given(dilations):
    adapter = TriPlaneMamba(16, hidden_dim=8, dilations=dilations)
    x = torch.randn(1, 8, 21, 1, 1, requires_grad=True)
    for branch, dilation in zip(adapter.multi_scale, dilations, strict=True):
        gradient = torch.autograd.grad(branch[0](x)[0, 0, 10].sum(), x)[0].abs().sum((0, 1, 3, 4))
        assert gradient.nonzero().flatten().tolist() == [10 - dilation, 10, 10 + dilation]


def test_beyond_the_first_and_last_slice_are_zeros():
    """So all convolutions along depth give the same for a stack to which slices of zeros are added."""
    adapter = adapter_that_does_something()
    for conv in (adapter.narrow[0], *(branch[0] for branch in adapter.multi_scale), adapter.widen):
        x = torch.randn(1, conv.in_channels, 5, 2, 2)
        extended = torch.nn.functional.pad(x, (0, 0, 0, 0, 8, 8))
        torch.testing.assert_close(conv(x), conv(extended)[:, :, 8:-8], rtol=1e-4, atol=1e-5)


def test_state_dict_names_the_parts_of_figure_2c():
    parts = {name.split(".")[0] for name in TriPlaneMamba(16, hidden_dim=8).state_dict()}
    assert parts == {"narrow", "multi_scale", "planes", "widen"}


def test_hidden_dim_must_fit_the_dilations():
    with pytest.raises(ValueError, match="hidden_dim 10 must be a multiple of 4, the number of dilations"):
        TriPlaneMamba(16, hidden_dim=10)
