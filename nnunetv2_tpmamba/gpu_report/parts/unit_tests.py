"""``pytest -m gpu``, where the tests are: in a clone of the repository, not in an installed package."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.gpu_report.notebook import Notebook
from nnunetv2_tpmamba.gpu_report.work import Work

MARK = "pytest.mark.gpu"
COMPLETED = (0, 1)  # pytest's exit status; 1 if tests failed, which the notes say


def measure(work: Work) -> None:
    if work.setting.device.type != "cuda":
        work.notebook.note("not run", "these tests need a GPU")
        return
    clone = find_clone()
    files = [] if clone is None else marked_tests(clone / "tests")
    if clone is None or importlib.util.find_spec("pytest") is None:
        missing = "pytest is not installed" if clone else "the tests are no part of an installed package"
        work.notebook.note("not run", f"{missing}; run the report in a clone, after pip install '.[test]'")
        return
    run_tests(work.notebook, [*map(str, files), "-m", "gpu"], clone)


def find_clone() -> Path | None:
    """The clone of the repository: the current folder, or the one around an editable installation."""
    places = (Path.cwd(), Path(__file__).parents[3])
    return next((place for place in places if (place / "tests" / "gpu_report").is_dir()), None)


def marked_tests(folder: Path) -> list[Path]:
    """The test files that have tests for a GPU; collecting all others would take longer than running these."""
    return sorted(file for file in folder.rglob("test_*.py") if MARK in file.read_text(encoding="utf-8"))


def run_tests(notebook: Notebook, arguments: Sequence[str], folder: Path) -> None:
    """Run pytest in this process, and write down each test's outcome when it is known.

    Args:
        notebook: also has the test that was running when the process ended.
        arguments: pytest's.
        folder: has pytest's configuration.

    Raises:
        RuntimeError: pytest could not run the tests, for instance because a package is missing.
    """
    import pytest

    os.chdir(folder)
    recorder = Recorder(notebook)
    options = ["-p", "no:cacheprovider", "--color=no", "--tb=short", "-v"]
    status = pytest.main([*options, *arguments], plugins=[recorder])
    notebook.note("tests", f"{recorder.number} run")
    if status not in COMPLETED:
        raise RuntimeError(f"pytest ended with status {int(status)}; what it printed is in this part's log")


class Recorder:
    """A plugin of pytest's that writes into a notebook."""

    def __init__(self, notebook: Notebook) -> None:
        self.number = 0
        self._notebook = notebook

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.number += 1
        self._notebook.check(nodeid, False, "did not end")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.passed:
            return
        if report.skipped:
            *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else (str(report.longrepr),)
            self._notebook.note(report.nodeid, str(reason))
        else:
            self._notebook.check(report.nodeid, report.passed, "passed" if report.passed else f"failed: {_why(report)}")


def _why(report: Any) -> str:
    """The exception's first line where pytest has it, else the end of what it says."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message).splitlines()[0] if crash else " ".join(report.longreprtext.split())[-200:]
