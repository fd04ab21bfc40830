"""The shape of the tree: what lies at the package's root, how long a file may be, and what tests may import."""

import ast

import pytest
from support.nnunet import REPOSITORY

PACKAGE = REPOSITORY / "nnunetv2_tpmamba"
TESTS = REPOSITORY / "tests"
PYTHON = [*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]
LONGEST = {PACKAGE: 260, TESTS: 400}  # lines


def names(files):
    return [str(file.relative_to(REPOSITORY)) for file in files]


def test_the_package_root_holds_folders_and_three_modules():
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {
        *("__init__.py", "config.py", "files.py", "py.typed")
    }


@pytest.mark.parametrize("root", LONGEST, ids=lambda root: root.name)
def test_no_file_is_too_long(root):
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in root.rglob("*.py")}
    assert not names(file for file, length in lengths.items() if length > LONGEST[root])


def test_no_test_file_imports_another():
    guilty = []
    for file in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            parts = {part for module in modules for part in module.split(".")}
            if any(part.startswith("test_") or part == "conftest" for part in parts):
                guilty.append(file)
    assert not names(guilty)


def test_no_fixture_is_imported_under_the_name_of_an_argument():
    forbidden = "noqa: " + "F811"  # in two pieces, so that this file does not hold it
    assert not names(file for file in PYTHON if forbidden in file.read_text(encoding="utf-8"))
