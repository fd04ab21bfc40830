"""A data set with trainings, and the verb compare on it."""

import json

import pytest
from support.trained_datasets import Datasets

from nnunetv2_tpmamba import cli


@pytest.fixture
def data(tmp_path, monkeypatch):
    return Datasets(tmp_path, monkeypatch)


@pytest.fixture
def compare(data, capsys):
    """Run ``compare`` into ``out``; return exit status and stderr, or the report as JSON."""

    def run(*arguments, status=0):
        result = cli.main(["compare", *map(str, arguments), "-o", str(data.root / "out"), "-np", "1"])
        run.output, run.errors = capsys.readouterr()
        assert result == status, run.errors
        return json.loads((data.root / "out" / "summary.json").read_text()) if status == 0 else run.errors

    return run
