"""Parts that a test writes, in modules that the process of a part can import."""

import os

import pytest

from nnunetv2_tpmamba.gpu_report.catalogue import Part


@pytest.fixture
def write_part(tmp_path, monkeypatch):
    """Write a part from the body of its ``measure(work)``."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))

    def write(name, body, share=1.0, needs=""):
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (folder / f"part_{name}.py").write_text(f"def measure(work):\n    import os, sys, time, torch\n{lines}")
        return Part(name, f"It is called {name}", share, f"part_{name}", needs)

    return write
