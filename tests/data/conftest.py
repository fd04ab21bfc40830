"""Data sets, preprocessed or not, made without a pool of processes."""

import pytest
from support.preprocessed_datasets import Dataset, SequentialPool, three_cases
from support.recorded_datasets import Made

from nnunetv2_tpmamba.data import workers


@pytest.fixture
def sequential(monkeypatch):
    """Preprocess in the test's own process, where a test is about the bookkeeping."""
    monkeypatch.setattr(workers, "ProcessPoolExecutor", SequentialPool)


@pytest.fixture
def dataset(tmp_path, sequential):
    return three_cases(tmp_path)


@pytest.fixture
def unmade(tmp_path, sequential):
    """Two small cases, not preprocessed yet."""
    dataset = Dataset(tmp_path).create()
    dataset.add_case("a")
    dataset.add_case("bb")
    return dataset


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)
