"""MONAI missing, too old or broken: one sentence that says what to install."""

import ast
import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from support.nnunet import REPOSITORY

import nnunetv2_tpmamba
from nnunetv2_tpmamba.networks.baselines import monai
from nnunetv2_tpmamba.networks.baselines.monai import require_monai
from nnunetv2_tpmamba.networks.baselines.vnet import build_vnet

NEEDED = "this network needs MONAI 1.5 or newer, but"
INSTALL = r"pip install 'monai>=1.5', or this package with its extra: pip install '.\[baselines\]'$"


def test_the_extra_installs_the_oldest_that_will_do():
    assert f'"monai>={monai.OLDEST}"' in (REPOSITORY / "setup.py").read_text()


def test_the_installed_one_will_do():
    require_monai()


def test_it_is_missing(monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(monai, "version", version)
    with pytest.raises(ImportError, match=rf"^{NEEDED} MONAI is not installed: {INSTALL}"):
        build_vnet(1, 2, (32, 32, 32))


@pytest.mark.parametrize("found", ["1.4.0", "1.5rc1", "0.9.1"])
def test_it_is_too_old(monkeypatch, found):
    monkeypatch.setattr(monai, "version", lambda name: found)
    with pytest.raises(ImportError, match=rf"^{NEEDED} MONAI {found} is installed: {INSTALL}"):
        require_monai()


def test_it_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(ImportError, match=rf"^{NEEDED} MONAI \S+ cannot be imported \(.*\): {INSTALL}"):
        require_monai()


def test_no_module_imports_it_before_a_network_is_built():
    for file in Path(nnunetv2_tpmamba.__file__).parent.rglob("*.py"):
        imports = [x for x in ast.parse(file.read_text()).body if isinstance(x, ast.Import | ast.ImportFrom)]
        assert not any(re.match(r"(from|import) monai\b", ast.unparse(x)) for x in imports), file
