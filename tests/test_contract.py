"""Who may import whom: ``.importlinter`` holds the table of docs/architecture.md, and import-linter checks it."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.nnunet import REPOSITORY

LINTER = Path(sys.executable).with_name("lint-imports")
PACKAGE = "nnunetv2_tpmamba"
FORBIDDEN = {
    "config": "from .files import sha256",
    "files": "from .networks import mamba",
    "demo/canvas": f"from {PACKAGE}.config import TPMambaConfig",
    "networks/lora": f"from {PACKAGE}.trainers import memory",
    "networks/mamba": "import nnunetv2",
    "networks/decoder": f"def late():\n    from {PACKAGE}.data import plans",
    "networks/triplane": f"from {PACKAGE} import TPMambaConfig",
    "data/plans": f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {PACKAGE}.networks import mamba",
    "benchmark/task": f"from {PACKAGE} import files",
    "__init__": "from .data import plans",
    "trainers/memory": f"from {PACKAGE}.trained import checkpoints",
    "doctor/finding": f"from {PACKAGE}.trainers import testbed",
    "trained/checkpoints": f"from {PACKAGE}.config import TPMambaConfig",
    "study/script": f"from {PACKAGE}.networks import mamba",
    "comparison/runs": f"from {PACKAGE}.trainers import testbed",
}


def lint(folder):
    """Run import-linter on the package in ``folder``; return its exit status and what it printed."""
    result = subprocess.run(
        [LINTER, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package and its contract."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(REPOSITORY / ".importlinter", folder)
    shutil.copytree(REPOSITORY / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_package_keeps_the_contract():
    status, text = lint(REPOSITORY)
    assert status == 0, text


@pytest.mark.parametrize("module", FORBIDDEN)
def test_one_forbidden_import_breaks_the_contract(copy, module):
    file = copy / PACKAGE / f"{module}.py"
    before = file.read_text()
    file.write_text(f"{before}\n{FORBIDDEN[module]}\n")
    try:
        status, text = lint(copy)
    finally:
        file.write_text(before)
    assert status == 1, text
    name = PACKAGE if module == "__init__" else f"{PACKAGE}.{module.replace('/', '.')}"
    assert f"{name} ->" in text


def test_a_new_folder_needs_a_place_in_the_contract(copy):
    folder = copy / PACKAGE / "new"
    folder.mkdir()
    (folder / "__init__.py").touch()
    try:
        status, text = lint(copy)
    finally:
        shutil.rmtree(folder)
    assert status == 1
    assert f"{PACKAGE}.new" in text


def test_config_imports_only_the_standard_library():
    tree = ast.parse((REPOSITORY / PACKAGE / "config.py").read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= sys.stdlib_module_names
