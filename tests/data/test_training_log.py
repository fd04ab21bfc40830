"""The trainers' lines are those that a comparison reads."""

import pytest

from nnunetv2_tpmamba.data.training_log import (
    environment_line,
    peak_memory_line,
    prediction_peak_memory_line,
    read_environment,
    read_peak_memory,
    read_prediction_peak_memory,
    read_prediction_seconds,
)


@pytest.mark.parametrize(
    ("peak", "gigabytes"), [(3_460_000_000, 3.5), (12e9, 12.0), (0, 0.0), (149_950_000_000, 149.9)]
)
def test_what_is_written_is_read(peak, gigabytes):
    log = f"2026-11-25: {peak_memory_line(peak)}\n2026-11-25: {prediction_peak_memory_line(peak // 2)}\nEpoch 0"
    assert read_peak_memory(log) == pytest.approx(gigabytes, abs=0.051)
    assert read_prediction_peak_memory(log) == pytest.approx(gigabytes / 2, abs=0.051)


def test_the_largest_peak_counts():
    assert read_peak_memory("\n".join(map(peak_memory_line, (3e9, 12e9, 7e9)))) == 12.0


@pytest.mark.parametrize("log", ["", "Epoch 0", "Peak memory: . GB\nPeak memory: GB"])
def test_a_log_without_a_peak(log):
    assert read_peak_memory(log) is None


def test_a_validation_that_was_stopped_counts_from_its_new_beginning():
    begun = [("10:00:00", "a"), ("10:00:05", "b")], [("12:00:00", "a"), ("12:00:03", "b"), ("12:00:07", "c")]
    stopped, whole = (
        "".join(f"2026-11-25 {time}.5: predicting case {case} \n" for time, case in times) for times in begun
    )
    complete = "2026-11-25 12:00:09.5: Validation complete \n"
    assert read_prediction_seconds(stopped + whole + complete) == [3, 4]
    assert read_prediction_seconds(whole + complete + stopped) == [3, 4]
    assert read_prediction_seconds(stopped) == []


def test_an_environment_that_is_written_is_read():
    written = {"python": "3.11", "device": 'a "name" {with} \\ signs\nand lines', "encoder": "\u00e4.pth"}
    assert read_environment(f"2026-11-25: {environment_line(written)} \nEpoch 0") == written
