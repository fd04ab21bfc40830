"""The ablations: what each changes of the paper's network, and what the paper prints for it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.networks.adapters import AttentionAdapter, ConvAdapter
from nnunetv2_tpmamba.networks.triplane import TriPlaneMamba
from nnunetv2_tpmamba.trainers import ablations
from nnunetv2_tpmamba.trainers.catalogue import trainers
from nnunetv2_tpmamba.trainers.memory import training_step_bytes
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

ADAPTERS = {"none": nn.Identity, "convolution": ConvAdapter, "attention": AttentionAdapter}
NO_MAMBA = {"planes": ()}
NO_CONVOLUTION = {"dilations": (), "conv_kernel": 1}
DIFFERS = {
    "conv3": {"dilations": (1,)},
    "conv5": {"dilations": (1,), "conv_kernel": 5},
    "ms5": {"conv_kernel": 5},
    "conv3_only": {"dilations": (1,)} | NO_MAMBA,
    "ms3_only": NO_MAMBA,
    "conv5_only": {"dilations": (1,), "conv_kernel": 5} | NO_MAMBA,
    "ms5_only": {"conv_kernel": 5} | NO_MAMBA,
    "volume": {"planes": ("volume",)},
    "hw": {"planes": ("hw",)},
    "dw": {"planes": ("dw",)},
    "volume_only": {"planes": ("volume",)} | NO_CONVOLUTION,
    "hw_only": {"planes": ("hw",)} | NO_CONVOLUTION,
    "dw_only": {"planes": ("dw",)} | NO_CONVOLUTION,
    "triplane_only": NO_CONVOLUTION,
    "r24": {"adapter_dim": 24},
    "r48": {"adapter_dim": 48},
    "r192": {"adapter_dim": 192},
    "lora": {"adapter": "none"},
    "conv_adapter": {"adapter": "convolution"},
    "attention": {"adapter": "attention"},
    "nomamba": NO_MAMBA,
    "bidirectional": {"bidirectional": True},
}
DICE = {
    "conv (k=3)": 75.1,
    "MS conv (k=3)": 78.9,
    "conv (k=5)": 75.9,
    "MS conv (k=5)": 79.0,
    "Volume": 73.9,
    "hw-plane": 74.4,
    "dw-plane": 76.5,
    "tri-plane": 78.7,
    "r = 24": 78.3,
    "r = 48": 78.0,
    "r = 192": 78.9,
}


def ablation(name):
    return getattr(ablations, f"nnUNetTrainerTPMamba_{name}")


def described(config):
    """What the config says of the parts of an adapter."""
    if config.adapter != "tri-plane":
        return ADAPTERS[config.adapter]
    planes = [*config.planes, *(f"{plane}_backward" for plane in config.planes if config.bidirectional)]
    return config.adapter_dim, (config.conv_kernel, 1, 1), list(config.dilations), planes


def built(adapter):
    """The same of an adapter."""
    if not isinstance(adapter, TriPlaneMamba):
        return type(adapter)
    convs = [adapter.narrow[0], *(branch[0] for branch in adapter.multi_scale), adapter.widen]
    (kernel,) = {conv.kernel_size for conv in convs}
    return convs[-1].in_channels, kernel, [conv.dilation[0] for conv in convs[1:-1]], list(adapter.planes)


def test_these_are_all():
    handed_out = [name for name, trainer in trainers().items() if trainer.__module__ == ablations.__name__]
    assert handed_out == [f"nnUNetTrainerTPMamba_{name}" for name in DIFFERS]


@pytest.mark.parametrize("name", DIFFERS)
def test_an_ablation_differs_by_what_its_name_says(name):
    assert ablation(name).config == replace(nnUNetTrainerTPMamba.config, **DIFFERS[name])
    assert ablation(name).testbed == nnUNetTrainerTPMamba.testbed
    with torch.device("meta"):
        adapters = ablation(name).build_network(1, 2, (96, 96, 96)).adapters
    assert [built(adapter) for adapter in adapters] == [described(ablation(name).config)] * 12


@pytest.mark.parametrize("name", DIFFERS)
def test_an_ablation_says_what_the_paper_prints_for_it_at_a_quarter_of_the_cases(name):
    row = vars(ablation(name))["row"]  # its own, not the paper's
    assert row.dice == ({6: DICE[row.name]} if row.table in {"table 2", "table 3", "table 4"} else {})
    assert name.endswith("_only") == ("Reading B" in row.differs)


def test_what_the_paper_prints_for_its_own_row():
    assert nnUNetTrainerTPMamba.row.dice == {24: 84.8, 6: 79.7, 3: 65.8}


def test_counted_memory_of_attention_has_no_matrix_of_scores(tiny_config):
    """Fused attention keeps none; for all pairs of 48 x 12 x 12 tokens one alone has 191 MB."""
    config = replace(tiny_config, adapter="attention")
    shape = (1, 1, 48, 96, 96)
    with torch.device("meta"):
        attention, none = TPMamba(1, 2, config), TPMamba(1, 2, replace(config, adapter="none"))
    for device in ("cpu", "cuda"):
        difference = training_step_bytes(attention, shape, device) - training_step_bytes(none, shape, device)
        assert difference < 50e6
