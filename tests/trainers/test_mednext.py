"""MedNeXt's trainer: which scales its loss is computed at, and with which weights."""

import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

from nnunetv2_tpmamba.trainers.catalogue import trainers
from nnunetv2_tpmamba.trainers.mednext import nnUNetTrainerTestbed_MedNeXtS


def test_the_loss_reads_all_five_scales(make):
    made = make(nnUNetTrainerTestbed_MedNeXtS, initialized=False)
    assert made._get_deep_supervision_scales() == [[0.5**i] * 3 for i in range(5)]
    loss = made._build_loss()
    assert isinstance(loss, DeepSupervisionWrapper)
    assert loss.weight_factors == pytest.approx([16 / 31, 8 / 31, 4 / 31, 2 / 31, 1 / 31])


def test_without_deep_supervision_the_loss_is_nnunets(make):
    class nnUNetTrainerTestbed_MedNeXt_plain(nnUNetTrainerTestbed_MedNeXtS):
        deep_supervision = False

    made = make(nnUNetTrainerTestbed_MedNeXt_plain, initialized=False)
    assert not isinstance(made._build_loss(), DeepSupervisionWrapper)


@pytest.mark.parametrize(("size", "blocks"), [("", 23), ("S", 8), ("B", 8), ("M", 15)])
def test_each_trainer_builds_its_size(size, blocks):
    cls = trainers()[f"nnUNetTrainerTestbed_MedNeXt{size}"]
    with torch.device("meta"):
        network = cls.build_network(1, 2, (32, 32, 32))
    assert sum(len(stage) for stage in network.mednext.enc_stages) == blocks
    cls.toggle_deep_supervision(network, False)
    assert isinstance(network(torch.empty(1, 1, 32, 32, 32, device="meta")), torch.Tensor)
