"""Two processes train as one would: same gradients, no parameter left out, one batch each, data made once.

The processes run on the CPU with gloo and meet in a file, so no port is needed. nnU-Net itself starts its trainer on
CUDA devices only; here the network is wrapped as nnU-Net does it, and of the trainer what needs no device is run.
"""

import pytest
import torch
from support.preprocessed_datasets import ENDINGS, Dataset
from support.two_processes import (
    CASES,
    STEPS,
    WORLD_SIZE,
    build,
    build_loss,
    nnUNetTrainerTPMamba_three,
    patch,
    prepare,
    run_in_two_processes,
    train,
    train_all_cases,
)

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.config import PREEMPTED

pytestmark = pytest.mark.timeout(120)


def train_alone(config, channels, batch_dice):
    network, loss = build(config, channels, seed=0), build_loss(False, batch_dice)

    def loss_of_step(step):
        data, targets = zip(
            *(patch(channels, seed=WORLD_SIZE * step + rank) for rank in range(WORLD_SIZE)), strict=True
        )
        outputs = [network(x) for x in data]
        if batch_dice:
            return loss(torch.cat(outputs), torch.cat(targets))
        return torch.stack([loss(x, target) for x, target in zip(outputs, targets, strict=True)]).mean()

    return train(network, loss_of_step)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The gradients of each rank, case and step."""
    return run_in_two_processes(train_all_cases, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_one_process(case, trained):
    alone = train_alone(*CASES[case])
    for of_rank in trained:
        for step in range(STEPS):
            for name, expected in alone[step].items():
                found = of_rank[case][step][name]
                if expected is None:
                    assert found is None, name
                else:
                    assert expected.abs().max() > 0, name
                    # sums of large terms that cancel differ more between numbers of threads
                    assert (found - expected).norm() <= 1e-4 * expected.norm(), (name, step)


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_that_trains_gets_a_gradient(case, trained):
    config, channels, _ = CASES[case]
    network = TPMamba(channels, 3, config)
    expected = {name for name, p in network.named_parameters() if p.requires_grad}
    assert any(name.startswith("to_rgb") for name in expected) == (channels == 2)
    assert config.pretrained == any(not p.requires_grad for p in network.encoder.parameters())
    for of_rank in trained:
        for gradients in of_rank[case]:
            assert {name for name, x in gradients.items() if x is not None} == expected


@pytest.fixture(scope="module")
def prepared_in(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def prepared(prepared_in):
    """What each process has made of a trainer and its data, and how its training ended."""
    dataset = Dataset(prepared_in).create()
    (dataset.preprocessed / "dataset_fingerprint.json").write_text("{}")
    for case in ("a", "bb", "ccc"):
        dataset.add_case(case)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("raw", "preprocessed", "results"):
            monkeypatch.setenv(f"nnUNet_{name}", str(prepared_in / name))
        monkeypatch.setenv("nnUNet_def_n_proc", "1")
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")
        return run_in_two_processes(prepare, prepared_in, dataset.preprocessed)


def test_every_process_trains_on_its_own_batch(prepared):
    for of_rank in prepared:
        assert of_rank["is_ddp"]
        assert of_rank["batch_size of the plans"] == 3 * WORLD_SIZE
        assert of_rank["batch_size"] == 3
        assert of_rank["oversampling"] == (True, nnUNetTrainerTPMamba_three.testbed.oversample_foreground)


def test_a_signal_to_one_process_ends_both_after_the_same_step(prepared, prepared_in):
    assert [of_rank["stopped"] for of_rank in prepared] == [(PREEMPTED, 1, 5)] * WORLD_SIZE
    (checkpoint,) = prepared_in.rglob("checkpoint_latest.pth")
    assert torch.load(checkpoint, weights_only=False)["current_epoch"] == 1
    (log,) = prepared_in.rglob("training_log*.txt")
    assert "Stopped by SIGUSR1 in epoch 1; checkpoint_latest.pth holds the 1 epoch before it" in log.read_text()


def test_data_are_made_by_one_process_and_awaited_by_the_other(prepared):
    assert sorted(of_rank["made"] for of_rank in prepared) == [[], ["a", "bb", "ccc"]]
    files = sorted(f"{case}{ending}" for case in ("a", "bb", "ccc") for ending in ENDINGS)
    assert [set(of_rank["files"]) for of_rank in prepared] == [set(files)] * WORLD_SIZE
