"""Where SAM's file is looked for, without a network and with empty caches."""

import pytest
from support import sam_sources


@pytest.fixture
def empty_caches(monkeypatch, tmp_path):
    sam_sources.empty_caches(monkeypatch, tmp_path)


@pytest.fixture
def sources(monkeypatch, tiny_checkpoint):
    """Both sources answer with the tiny checkpoint; the log of their calls."""
    return sam_sources.answer_with(monkeypatch, tiny_checkpoint)
