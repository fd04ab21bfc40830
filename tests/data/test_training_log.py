"""The trainer's line of the peak memory is the one that a comparison reads."""

import pytest

from nnunetv2_tpmamba.data.training_log import peak_memory_line, read_peak_memory


@pytest.mark.parametrize(
    ("peak", "gigabytes"), [(3_460_000_000, 3.5), (12e9, 12.0), (0, 0.0), (149_950_000_000, 149.9)]
)
def test_what_is_written_is_read(peak, gigabytes):
    assert read_peak_memory(f"2026-11-25: {peak_memory_line(peak)}\nEpoch 0") == pytest.approx(gigabytes, abs=0.051)


def test_the_largest_peak_counts():
    assert read_peak_memory("\n".join(map(peak_memory_line, (3e9, 12e9, 7e9)))) == 12.0


@pytest.mark.parametrize("log", ["", "Epoch 0", "Peak memory: . GB\nPeak memory: GB"])
def test_a_log_without_a_peak(log):
    assert read_peak_memory(log) is None
