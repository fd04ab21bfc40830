"""What ``doctor`` says of nnU-Net's three folders."""

import os
import re
import shutil
import tempfile
from collections import namedtuple

import pytest
from support.doctor_output import fails_alone


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
@pytest.mark.parametrize("value", [None, "", "/no/such/folder", __file__])
def test_folder_is_missing(doctor, monkeypatch, variable, value):
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    status, output = doctor()
    assert status == 1
    problem = {"/no/such/folder": "does not exist", __file__: "is a file, not a folder"}.get(value, "is not set")
    assert re.match(rf"{variable}\S* {problem}", fails_alone(output))
    assert f"export {variable}=/" in output


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("nnUNet_raw", '"{}"'),
        ("nnUNet_raw", " {} "),
        ("nnUNet_preprocessed", "'{}'"),
        ("nnUNet_results", "$HOME/{}"),
        ("nnUNet_extTrainer", '"{}"'),
        ("TPMAMBA_SAM_CHECKPOINT", "~/{}"),
    ],
)
def test_what_a_shell_takes_away_is_named(doctor, healthy, monkeypatch, variable, value):
    """As Windows' ``set NAME="C:\\my data"`` and the ``--env-file`` of Docker hand it on."""
    meant = os.environ[variable]
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv(variable, value.format(meant.removeprefix("/") if "/{}" in value else meant))
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).startswith(f"{variable}={os.environ[variable].rstrip()}")
    assert "holds what a shell takes away or replaces" in output
    assert re.search(f"-> set it without: {variable}=/*{meant.removeprefix('/')}\n", output)
    assert "mkdir" not in output


def test_raw_data_are_not_needed_once_preprocessed(doctor, healthy, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    (healthy.preprocessed / "Dataset001_Test" / "nnUNetPlans_3d_fullres_tpmamba").mkdir(parents=True)
    status, output = doctor()
    assert status == 0
    assert "note  nnUNet_raw is not set; nnU-Net needs it; only what is preprocessed" in output


def test_folder_that_nnunet_will_make_is_noted(doctor, healthy, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(healthy.results / "new"))
    status, output = doctor()
    assert status == 0
    assert f"note  nnUNet_results={healthy.results / 'new'} does not exist yet; nnU-Net makes it" in output


def test_folder_is_read_only(doctor, healthy, monkeypatch):
    def temporary_file(dir):
        if dir == healthy.results:  # tests may run as root, whom no permission stops
            raise OSError(30, "Read-only file system")
        return tempfile.SpooledTemporaryFile()

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).endswith(f"{healthy.results} cannot be written to: Read-only file system")
    assert "-> export nnUNet_results=/another/folder" in output


def test_little_space_is_noted(doctor, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 3 * 2**30))
    status, output = doctor()
    assert status == 0
    assert len(re.findall("only 3.0 GiB are free\n      -> make room", output)) == 2
