"""What a training says of its environment; the commit is that of a clone or of what pip installed."""

import platform
import subprocess

import pytest
import torch

from nnunetv2_tpmamba.trainers import environment as module
from nnunetv2_tpmamba.trainers.environment import commit, environment


def test_versions_and_device():
    found = environment(torch.device("cpu"))
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert (found["device"], bool(found["processor"])) == ("cpu", True)
    assert all(isinstance(value, str) for value in found.values())


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """An empty folder in the place of this package's clone."""
    monkeypatch.setattr(module, "CLONE", tmp_path)
    return tmp_path


def test_the_commit_of_a_clone_and_whether_files_differ_from_it(clone):
    def git(*arguments):
        return subprocess.run(["git", "-C", clone, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (clone / "file").write_text("a")
    git("add", "file")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    git("tag", "v1")
    first = git("rev-parse", "--short=12", "HEAD").strip()
    assert commit() == first
    (clone / "file").write_text("b")
    assert commit() == f"{first}-dirty"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ('{"url": "https://a", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}}', "0123456789ab"),
        ('{"url": "file:///a", "dir_info": {"editable": true}}', None),
        (None, None),
    ],
)
@pytest.mark.parametrize("damaged_clone", [False, True])
def test_the_commit_of_what_pip_installed(clone, monkeypatch, origin, expected, damaged_clone):
    if damaged_clone:
        (clone / ".git").write_text("no clone")

    class Distribution:
        def read_text(self, name):
            return origin

    monkeypatch.setattr(module, "distribution", lambda name: Distribution())
    assert commit() == expected
