"""What is sent tells nothing of the user: no name, no machine, no folder."""

import getpass
import platform
import socket
import sys
from pathlib import Path

import pytest

import nnunetv2_tpmamba
from nnunetv2_tpmamba.gpu_report.privacy import Privacy

TRACE = """\
Traceback (most recent call last):
  File "{package}/nnunetv2_tpmamba/cli/benchmark.py", line 3, in run
  File "{prefix}/lib/python3.11/runpy.py", line 2
OSError: /home/alice/secret project/x/data.json and /mnt/clinic-7/patients/p12/ct.nii.gz, C:\\Users\\Alice\\x.txt
"""


@pytest.fixture
def privacy(monkeypatch, tmp_path):
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(platform, "node", lambda: "gpu7.clinic.example")
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu7")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    return Privacy({tmp_path / "work": "WORK", tmp_path: "REPORT"})


def test_a_traceback_keeps_what_a_developer_needs(privacy):
    package = Path(nnunetv2_tpmamba.__file__).parents[1]  # may lie in the Python's own folder or anywhere
    text = privacy.clean(TRACE.format(package=package, prefix=sys.prefix))
    assert 'File "PACKAGES/nnunetv2_tpmamba/cli/benchmark.py", line 3' in text
    assert 'File "PYTHON/lib/python3.11/runpy.py"' in text
    for secret in ("alice", "Alice", "clinic", "p12", "patients", "/home", "/mnt"):
        assert secret not in text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("gpu7.clinic.example runs, gpu7 too, by alice", "MACHINE runs, MACHINE too, by USER"),
        ("gpu77 and malice stay", "gpu77 and malice stay"),
        ("/home/alice", "HOME"),
        ("a ratio of 3/4, 12 GB/s, tests/networks/ops/test_operator.py", None),
        ("https://github.com/someone/something/issues/1", None),
        ("torch 2.15.0, CUDA 12.8", None),
    ],
)
def test_names_are_replaced_and_nothing_else(privacy, text, cleaned):
    assert privacy.clean(text) == (cleaned or text)


def test_own_folders_are_called_by_what_they_are(privacy, tmp_path):
    assert privacy.clean(f"{tmp_path}/work/sam.pth in {tmp_path}, {tmp_path}-other/deep/x") == (
        "WORK/sam.pth in REPORT, .../x"
    )


def test_nested_texts_are_cleaned(privacy):
    content = {"by alice": ["alice", 3, None, {"x": ("/srv/alice/file", True)}]}
    assert privacy.cleaned(content) == {"by USER": ["USER", 3, None, {"x": [".../file", True]}]}


def test_a_user_without_a_name_is_no_error(monkeypatch):
    def missing():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", missing)
    assert Privacy({}).clean("text") == "text"
