"""What one trained fold says of its cost, its curve and its cases."""

import json

import numpy as np
import pytest
import torch

from nnunetv2_tpmamba.comparison.runs import Cost, read_checkpoint, read_logs, read_run

LOGGED = {
    "epoch_start_timestamps": [0.0, 60.0, 120.0],
    "epoch_end_timestamps": [30.0, 100.0, 150.0],
    "mean_fg_dice": [np.float32(0.1), np.float64(0.2), 0.3],
}


def checkpoint(**changes):
    """What nnU-Net's trainer saves, of a network with 30 trained and 70 frozen elements."""
    weights = {"a": torch.zeros(10, 3), "frozen": torch.zeros(70)}
    state = {"state": {0: {"momentum_buffer": torch.zeros(10, 3)}}, "param_groups": []}
    whole = {"network_weights": weights, "optimizer_state": state, "logging": LOGGED} | changes
    return {name: value for name, value in whole.items() if value != "left out"}


def read(folder, **changes):
    torch.save(checkpoint(**changes), folder / "checkpoint_final.pth")
    return read_checkpoint(folder, read_logs(folder))


def test_cost_and_curve_are_those_of_the_checkpoint(tmp_path):
    cost, curve = read(tmp_path)
    size = (tmp_path / "checkpoint_final.pth").stat().st_size
    assert cost == Cost(3, 30.0, 100 / 3600, 100, 30, size, None)
    assert curve == pytest.approx((0.1, 0.2, 0.3))


@pytest.mark.parametrize("logging", ["left out", None, [], {}, {"mean_fg_dice": None}, {"epoch_end_timestamps": 3}])
def test_times_and_curve_that_are_not_in_the_checkpoint_are_unknown(tmp_path, logging):
    cost, curve = read(tmp_path, logging=logging)
    assert (cost.epochs, cost.epoch_seconds, cost.hours) == (None, None, None)
    assert curve == ()
    assert (cost.parameters, cost.trained_parameters) == (100, 30)


def test_times_are_known_without_a_curve(tmp_path):
    cost, curve = read(tmp_path, logging={name: LOGGED[name] for name in LOGGED if name != "mean_fg_dice"})
    assert cost.epochs == 3
    assert curve == ()


@pytest.mark.parametrize(
    "state", ["left out", None, {}, {"state": {}}, {"state": {0: {}}}, {"state": {0: None}}, {"state": [1]}, [1]]
)
def test_without_the_optimisers_state_trained_parameters_are_unknown(tmp_path, state):
    cost, curve = read(tmp_path, optimizer_state=state)
    assert cost.trained_parameters is None
    assert (cost.epochs, cost.parameters, len(curve)) == (3, 100, 3)


def test_what_is_no_tensor_among_the_weights_does_not_count(tmp_path):
    cost, _ = read(tmp_path, network_weights={"a": torch.zeros(7), "version": 2})
    assert cost.parameters == 7


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_without_a_checkpoint_the_logs_are_read(tmp_path, content):
    if content is not None:
        (tmp_path / "checkpoint_final.pth").write_bytes(content)
    (tmp_path / "training_log_1.txt").write_text("2026: Peak memory: 3.5 GB\n")
    assert read_checkpoint(tmp_path, read_logs(tmp_path)) == (Cost(peak_memory_gb=3.5), ())


def test_peak_memory_is_the_largest_of_all_logs(tmp_path):
    (tmp_path / "training_log_1.txt").write_text("Epoch 0\n: Peak memory: 3.5 GB\n: Peak memory: 12.0 GB\n")
    (tmp_path / "training_log_2.txt").write_bytes(b"\xff\xfe: Peak memory: 7 GB\nPeak memory: . GB\nPeak memory: GB")
    assert read(tmp_path)[0].peak_memory_gb == 12.0


def test_peak_memory_that_is_not_logged_is_unknown(tmp_path):
    (tmp_path / "training_log_1.txt").write_text("Epoch 0\n")
    assert read(tmp_path)[0].peak_memory_gb is None


@pytest.mark.parametrize(
    ("debug", "expected"),
    [
        ('{"num_iterations_per_epoch": "250"}', 250),  # as nnU-Net writes it
        ('{"num_iterations_per_epoch": 50}', 50),
        ('{"num_iterations_per_epoch": "many"}', None),
        ("{}", None),
        ("[1]", None),
        ("{", None),
        (None, None),
    ],
)
def test_iterations_per_epoch_are_read_where_nnunet_wrote_them(tmp_path, debug, expected):
    fold = tmp_path / "fold_0"
    (fold / "validation").mkdir(parents=True)
    if debug is not None:
        (fold / "debug.json").write_text(debug)
    assert read_run("m", tmp_path, "0", ".nii.gz").iterations_per_epoch == expected


def test_a_run_names_its_cases_and_data(tmp_path):
    validation = tmp_path / "fold_0" / "validation"
    validation.mkdir(parents=True)
    for name in ("b.nii.gz", "a.nii.gz", "summary.json"):
        (validation / name).touch()
    (tmp_path / "dataset_fingerprint.json").write_text(json.dumps({"spacings": []}))
    run = read_run("m", tmp_path, "0", ".nii.gz")
    assert list(run.predictions) == ["a", "b"]
    assert run.data == '{"spacings": []}'


LOG = """
2026-11-26 08:33:41.120899: This split has 9 training and 3 validation cases.
2026-11-26 08:33:40: predicting a
2026-11-26 08:33:40.100000: a, shape torch.Size([1, 37, 58, 63]), rank 0
2026-11-26 08:33:52.500000: predicting b
2026-11-26 08:33:55.500000: predicting c
2026-11-26 08:34:55.500000: Validation complete
2026-11-26 08:34:55.600000: Mean Validation Dice:  0.83
"""
AGAIN = """
2026-11-27 08:00:00.000000: predicting a
2026-11-27 08:00:10.000000: predicting b
"""


def test_seconds_per_predicted_case_are_those_between_the_cases_of_the_last_complete_validation(tmp_path):
    (tmp_path / "training_log_1.txt").write_text(LOG + AGAIN)  # the second one was ended
    assert read(tmp_path)[0].prediction_seconds == (12.5 + 3) / 2
    (tmp_path / "training_log_2.txt").write_text(AGAIN + "2026-11-27 08:00:30.0: Validation complete\n")
    assert read(tmp_path)[0].prediction_seconds == 10
    (tmp_path / "training_log_3.txt").write_text("2026-99-27 08:00:30.0: predicting a\n")
    assert read(tmp_path)[0].prediction_seconds is None


def test_the_peak_memory_of_the_prediction_is_not_that_of_the_training(tmp_path):
    (tmp_path / "training_log_1.txt").write_text(": Peak memory: 3.5 GB\n: Peak memory of prediction: 1.5 GB\n")
    cost, _ = read(tmp_path)
    assert (cost.peak_memory_gb, cost.prediction_memory_gb) == (3.5, 1.5)


def test_the_environment_is_that_of_the_logs_and_else_that_of_nnunets_debug(tmp_path):
    fold = tmp_path / "fold_0"
    (fold / "validation").mkdir(parents=True)
    assert read_run("m", tmp_path, "0", ".nii.gz").environment == {}
    (fold / "debug.json").write_text('{"torch_version": "2.9", "device": "cuda:0", "gpu_name": "A100"}')
    assert read_run("m", tmp_path, "0", ".nii.gz").environment == {"torch": "2.9", "device": "A100"}
    (fold / "training_log_1.txt").write_text('2026: Environment: {"torch": "2.8", "python": "3.11"} \nEnvironment: {"t')
    (fold / "training_log_2.txt").write_text('2026: Environment: {"torch": "2.9", "python": "3.11"} \n')
    assert read_run("m", tmp_path, "0", ".nii.gz").environment == {
        "torch": "2.8, then 2.9",
        "python": "3.11",
        "device": "A100",
    }
