"""The adapter: which tokens each plane and each convolution connects, in the paper's module and in its ablations."""

from itertools import product

import pytest
import torch
from torch import nn

from nnunetv2_tpmamba.networks import depth_conv
from nnunetv2_tpmamba.networks.mamba import MambaBlock
from nnunetv2_tpmamba.networks.triplane import PLANES, PlaneMamba, TriPlaneMamba

AXES = {"hw": "hw", "dw": "dw", "dh": "dh", "volume": "dhw"}


def adapter_that_does_something(**sizes):
    torch.manual_seed(0)
    adapter = TriPlaneMamba(16, hidden_dim=8, **sizes)
    torch.nn.init.normal_(adapter.widen.weight)
    return adapter


def tokens_seen_by(at, D, h, w, **sizes):
    """Where a change of the input changes the token ``at`` of the output; norms, which see all tokens, are left out."""
    tokens = torch.randn(1, D, h, w, 16, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth_conv, "instance_norm", lambda x, *_: x)
        output = adapter_that_does_something(**sizes)(tokens)[0][at]
    return torch.autograd.grad((output * torch.randn(16)).sum(), tokens)[0].abs().sum(-1)[0] > 0


@pytest.mark.parametrize("shape", [(2, 5, 3, 4, 16), (1, 1, 2, 2, 16), (1, 7, 1, 1, 16), (1, 1, 1, 1, 16)])
def test_is_identity_at_init(shape):
    tokens = torch.randn(shape)
    assert torch.equal(TriPlaneMamba(16, hidden_dim=8)(tokens), tokens)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("plane", PLANES)
def test_plane_mixes_exactly_its_axes(plane, backward):
    torch.manual_seed(0)
    module = PlaneMamba(plane, 8, backward=backward)
    tokens = torch.randn(2, 4, 5, 6, 8, requires_grad=True)  # (b, D, h, w, c)
    at = {"b": 1, "d": 2, "h": 3, "w": 4}
    # the token that a causal scan reads last sees all the others of its sequence
    last = {"d": 0, "h": 0, "w": 0} if backward else {"d": 3, "h": 4, "w": 5}
    output = module(tokens)[tuple(last[axis] if axis in AXES[plane] else at[axis] for axis in "bdhw")]
    gradient = torch.autograd.grad((output * torch.randn(8)).sum(), tokens)[0].abs().sum(-1) > 0
    expected = torch.zeros(2, 4, 5, 6, dtype=torch.bool)
    expected[tuple(slice(None) if axis in AXES[plane] else at[axis] for axis in "bdhw")] = True
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
        "volume": (tokens[0].reshape(-1, 8), lambda out: out[0].reshape(-1, 8)),
    }[plane]
    expected = torch.nn.functional.gelu(module.norm(module.mamba(sequence[None])[0]))
    torch.testing.assert_close(where(module(tokens)), expected)


def test_planes_are_summed():
    """Equation 3: with the others silenced, what remains of the sum is one plane's reading."""
    adapter = adapter_that_does_something()
    tokens = torch.randn(1, 4, 3, 3, 16)
    contributions = []
    for plane in adapter.planes:
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


@pytest.mark.parametrize("at", [(0, 0, 0), (1, 1, 2), (2, 1, 3)])
def test_volume_sees_what_comes_before_in_raster_order_and_both_directions_see_all(at):
    sizes = {"planes": ["volume"], "dilations": (), "conv_kernel": 1}
    position = torch.arange(3 * 2 * 4).view(3, 2, 4)
    assert torch.equal(tokens_seen_by(at, 3, 2, 4, **sizes), position <= position[at])
    assert tokens_seen_by(at, 3, 2, 4, **sizes, bidirectional=True).all()


@pytest.mark.parametrize("planes", [["hw"], ["dw"], ["hw", "dw", "dh"]])
def test_adapter_reads_the_planes_it_is_given(planes):
    """With both directions a token sees all of every plane that it lies in, and nothing else."""
    at = {"d": 1, "h": 1, "w": 2}
    expected = torch.zeros(3, 3, 4, dtype=torch.bool)
    for plane in planes:
        expected[tuple(slice(None) if axis in plane else at[axis] for axis in "dhw")] = True
    sizes = {"planes": planes, "dilations": (), "conv_kernel": 1, "bidirectional": True}
    assert torch.equal(tokens_seen_by((1, 1, 2), 3, 3, 4, **sizes), expected)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilations", [(), (1,), (1, 2, 4, 8)])
def test_without_mamba_a_token_sees_the_slices_that_the_convolutions_read(kernel, dilations):
    reach = range(-(kernel // 2), kernel // 2 + 1)  # of narrowing, of each branch, of widening
    branches = {dilation * step for dilation in dilations for step in reach} or {0}
    expected = torch.zeros(49, 2, 2, dtype=torch.bool)
    expected[[24 + sum(steps) for steps in product(reach, branches, reach)], 1, 0] = True
    seen = tokens_seen_by((24, 1, 0), 49, 2, 2, planes=(), conv_kernel=kernel, dilations=dilations)
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("dilations", [(1, 2, 4, 8), (3, 1)])
def test_parallel_depth_convs_read_at_the_dilations_given(dilations):
    adapter = TriPlaneMamba(16, hidden_dim=8, dilations=dilations)
    x = torch.randn(1, 8, 21, 1, 1, requires_grad=True)
    for branch, dilation in zip(adapter.multi_scale, dilations, strict=True):
        gradient = torch.autograd.grad(branch[0](x)[0, 0, 10].sum(), x)[0].abs().sum((0, 1, 3, 4))
        assert gradient.nonzero().flatten().tolist() == [10 - dilation, 10, 10 + dilation]


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_beyond_the_first_and_last_slice_are_zeros(kernel):
    """So all convolutions along depth give the same for a stack to which slices of zeros are added."""
    adapter = adapter_that_does_something(conv_kernel=kernel)
    for conv in (adapter.narrow[0], *(branch[0] for branch in adapter.multi_scale), adapter.widen):
        x = torch.randn(1, conv.in_channels, 5, 2, 2)
        extended = torch.nn.functional.pad(x, (0, 0, 0, 0, 16, 16))
        torch.testing.assert_close(conv(x), conv(extended)[:, :, 16:-16], rtol=1e-4, atol=1e-5)


def test_state_dict_names_the_parts_of_figure_2c():
    parts = {name.split(".")[0] for name in TriPlaneMamba(16, hidden_dim=8).state_dict()}
    assert parts == {"narrow", "multi_scale", "planes", "widen"}


def test_the_papers_module_is_as_it_was_before_it_could_be_changed():
    """Checkpoints hold these names, and a seed draws the same weights in this order."""

    def conv_and_norm(channels, width, dilation=1):
        conv = nn.Conv3d(channels, width, (3, 1, 1), padding=(dilation, 0, 0), dilation=(dilation, 1, 1), bias=False)
        return nn.Sequential(conv, nn.InstanceNorm3d(width, affine=True))

    def plane():
        return nn.ModuleDict({"mamba": MambaBlock(8), "norm": nn.LayerNorm(8)})

    torch.manual_seed(0)
    before = nn.ModuleDict()
    before["narrow"] = conv_and_norm(16, 8)
    before["multi_scale"] = nn.ModuleList(conv_and_norm(8, 2, dilation) for dilation in (1, 2, 4, 8))
    before["planes"] = nn.ModuleDict({name: plane() for name in ("hw", "dw", "dh")})
    before["widen"] = nn.Conv3d(8, 16, (3, 1, 1), bias=False)
    nn.init.zeros_(before["widen"].weight)
    torch.manual_seed(0)
    now = TriPlaneMamba(16, hidden_dim=8).state_dict()
    assert list(now) == list(before.state_dict())
    assert all(torch.equal(now[name], x) for name, x in before.state_dict().items())


def test_a_direction_more_adds_mamba_blocks_and_changes_nothing_else():
    one = TriPlaneMamba(16, hidden_dim=8).state_dict()
    both = TriPlaneMamba(16, hidden_dim=8, bidirectional=True).state_dict()
    backward = {name.replace(".hw.", ".hw_backward.") for name in one if name.startswith("planes.hw.")}
    assert one.keys() < both.keys()
    assert backward < both.keys() - one.keys()
    assert len(both) - len(one) == 3 * len(backward)


def test_hidden_dim_must_fit_the_dilations():
    with pytest.raises(ValueError, match="hidden_dim 10 must be a multiple of 4, the number of dilations"):
        TriPlaneMamba(16, hidden_dim=10)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"conv_kernel": 4}, "conv_kernel 4: it must be an odd number of slices, such as 1, 3 or 5"),
        ({"conv_kernel": -1}, "conv_kernel -1: it must be an odd number"),
        ({"dilations": (1, 0)}, r"dilations \(1, 0\): each must be at least 1; \(\) leaves these convolutions out"),
        ({"planes": ("wh",)}, r"planes \('wh',\): each must be one of hw, dw, dh, volume, at most once; \(\) means no"),
        ({"planes": ("hw", "hw")}, r"planes \('hw', 'hw'\): each must be one of .*, at most once"),
    ],
)
def test_what_no_adapter_can_be_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        TriPlaneMamba(16, hidden_dim=8, **sizes)
