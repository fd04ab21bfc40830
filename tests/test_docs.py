"""What the documentation names exists: tests, linked pages, files, symbols and imports of the package."""

import ast
import importlib
import re
from functools import cache

import pytest
from support.nnunet import REPOSITORY

DOCS = REPOSITORY / "docs"
PACKAGE = REPOSITORY / "nnunetv2_tpmamba"
EXAMPLE = DOCS / "example-report" / "README.md"
PAGES = {
    str(page.relative_to(REPOSITORY)): page for page in (REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")), EXAMPLE)
}
TEST_ID = re.compile(r"tests/[\w/]+\.py(?:::\w+)*")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
SOURCE_FILE = re.compile(r"`([\w/]+\.(?:py|sh))\b")
SYMBOL = re.compile(r"`([\w/]+\.py): ([\w.]+)")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@cache
def ids_in(file):
    """The ids that pytest knows in a test file, without parameters: the file, its functions, classes and methods."""
    ids = set()
    for node in ast.parse((REPOSITORY / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            ids.add(f"{file}::{node.name}")
        if isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef))
            ids |= {f"{file}::{node.name}::{method.name}" for method in methods}
    return {file} | {test for test in ids if re.fullmatch(r"[Tt]est.*", test.split("::")[-1])}


def exists(test):
    file = test.partition("::")[0]
    return (REPOSITORY / file).is_file() and test in ids_in(file)


@pytest.mark.parametrize("page", PAGES)
def test_every_test_named_in_a_page_exists(page):
    named = TEST_ID.findall(PAGES[page].read_text(encoding="utf-8"))
    assert not [test for test in named if not exists(test)]


@pytest.mark.parametrize("page", PAGES)
def test_no_test_is_named_in_an_abbreviated_form(page):
    """A name that stands alone, such as ``::test_x`` or ``test_x.py::test_y``, cannot be pasted after ``pytest``."""
    text = TEST_ID.sub("", PAGES[page].read_text(encoding="utf-8"))
    assert not re.findall(r"\S*::\w*[Tt]est\w*", text)


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page):
    links = LINK.findall(PAGES[page].read_text(encoding="utf-8"))
    relative = [link for link in links if not re.match(r"\w+:", link)]
    assert not [link for link in relative if not (PAGES[page].parent / link).exists()]


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/paper-map.md"])
def test_every_file_named_exists(page):
    named = SOURCE_FILE.findall(PAGES[page].read_text(encoding="utf-8"))
    assert named
    assert not [name for name in named if not any((root / name).is_file() for root in (PACKAGE, REPOSITORY))]


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/paper-map.md"])
def test_every_symbol_named_is_in_its_file(page):
    named = SYMBOL.findall(PAGES[page].read_text(encoding="utf-8"))
    assert named
    for file, symbol in named:
        source = (PACKAGE / file).read_text(encoding="utf-8")
        assert all(re.search(rf"\b{part}\b", source) for part in symbol.split(".")), f"{file}: {symbol}"


@pytest.mark.parametrize("page", PAGES)
def test_every_import_in_a_page_works(page):
    for block in PYTHON_BLOCK.findall(PAGES[page].read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("nnunetv2_tpmamba"):
                module = importlib.import_module(node.module)
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]
