"""MedNeXt: MONAI's network in the authors' sizes, and the outputs of all resolutions in any mode."""

import pytest
import torch
from monai.networks.nets.mednext import create_mednext

from nnunetv2_tpmamba.networks.baselines.mednext import build_mednext, plan_mednext

SMALLEST = (32, 32, 32)


@pytest.fixture(scope="module")
def network():
    return build_mednext(3, 2, SMALLEST, "S")


@pytest.mark.parametrize(
    ("size", "parameters", "down"),  # as the authors' code has them, but for its one number that is no weight
    [
        ("S", 5_564_806, [2, 2, 2, 2]),
        ("B", 10_540_198, [3, 4, 4, 4]),
        ("M", 17_562_854, [3, 4, 4, 4]),
        ("L", 61_793_158, [4, 8, 8, 8]),
    ],
)
def test_each_size_is_the_authors(size, parameters, down):
    with torch.device("meta"):
        network = build_mednext(1, 14, (96, 96, 96), size)
        monais = create_mednext(size, in_channels=1, out_channels=14, deep_supervision=True)
    assert sum(p.numel() for p in network.parameters()) == parameters
    blocks = network.mednext.down_blocks
    assert [block.conv2.out_channels // block.conv2.in_channels for block in blocks] == down
    others = [
        {name: x.shape for name, x in each.state_dict().items() if not name.startswith("down_blocks")}
        for each in (network.mednext, monais)
    ]
    assert others[0] == others[1]


def test_the_smallest_is_monais(network):
    monais = create_mednext("S", in_channels=3, out_channels=2, deep_supervision=True)
    monais.load_state_dict(network.mednext.state_dict())
    image = torch.rand(1, 3, *SMALLEST)
    with torch.no_grad():
        torch.testing.assert_close(network(image), list(monais(image)), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_outputs_follow_the_toggle_and_not_the_mode(network, training):
    network.train(training)
    image = torch.rand(1, 3, *SMALLEST)
    with torch.no_grad():
        outputs = network(image)
        network.deep_supervision = False
        output = network(image)
        network.deep_supervision = True
    assert [x.shape[2] for x in outputs] == [32, 16, 8, 4, 2]
    assert torch.equal(output, outputs[0])
    assert network.training == training


def test_the_plans_hold_a_stride_more_than_there_are_outputs():
    assert plan_mednext()["arch_kwargs"]["strides"] == [[1, 1, 1]] + 5 * [[2, 2, 2]]


def test_a_patch_it_cannot_take_is_refused():
    message = r"patch size \(16, 96, 100\): the sides must be multiples of 16 and at least 32; .* \(32, 96, 96\)"
    with pytest.raises(ValueError, match=message):
        build_mednext(1, 2, (16, 96, 100))
