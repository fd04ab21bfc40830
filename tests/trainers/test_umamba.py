"""U-Mamba's trainers: the topology that is planned for nnU-Net's network, and where the Mamba layers are."""

import pytest
import torch

from nnunetv2_tpmamba.networks.baselines.nnunet import plan_unet
from nnunetv2_tpmamba.trainers.catalogue import trainers


@pytest.mark.parametrize(("kind", "layers"), [("Bot", {"4"}), ("Enc", set("01234")), ("None", set())])
def test_it_is_planned_as_nnunets_network_and_has_mamba_where_its_name_says(kind, layers):
    row = trainers()[f"nnUNetTrainerTestbed_UMamba{kind}"]
    assert row.plan_architecture() == plan_unet(row.testbed.patch_size)
    with torch.device("meta"):
        network = row.build_network(1, 3, row.testbed.patch_size)
    of_mamba = [name for name, _ in network.named_parameters() if ".mamba." in name]
    assert {name.split(".")[2] for name in of_mamba} == layers
