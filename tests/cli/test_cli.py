"""The command as users meet it, and what nnU-Net finds in the folder that ``path`` prints."""

import inspect
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from support.nnunet import PLUGIN

import nnunetv2_tpmamba
from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.cli import path as path_verb
from nnunetv2_tpmamba.trainers.catalogue import trainers

PROGRAM = "nnUNetv2_tpmamba"
ARGUMENTS = {
    "path": [],
    "doctor": [],
    "weights": ["[--to DIR]"],
    "trainers": [],
    "preprocess": ["-d D", "[-c C", "[-p PLANS]", "[-np N]", "[--verify]"],
    "demo": ["[--out DIR]", "[--data RAW_DATASET_FOLDER]", "[--epochs N]"],
    "benchmark": ["[--device", "[--json FILE]"],
    "fewshot": ["-d D", "-n", "--draws", "[--test K", "[--seed S]"],
    "study": ["plan", "status"],
    "export": ["-d D", "-o FILE", "[-tr T]", "[-p PLANS]", "[-c C]", "[-f F", "[-chk FILE]"],
    "install": ["FILE"],
    "compare": ["-d D", "-tr", "[-c C", "[-p PLANS", "[-f", "[-o DIR]", "[--tolerance MM"],
}
TRAINERS = tuple(trainers())
HEAVY = ("torch", "timm", "nnunetv2", "batchgenerators", "numpy", "SimpleITK", "matplotlib")


def run(*command, **environment):
    """Run a command of this environment; return the completed process, its output as text."""
    program = Path(sys.executable).with_name(command[0])
    return subprocess.run(
        [program, *command[1:]], env=environment or None, capture_output=True, text=True, timeout=120, check=False
    )


def python(code, **environment):
    # isolated from the current folder: there lies the clone, which need not be what is installed
    return run(Path(sys.executable).name, "-I", "-W", "ignore", "-c", code, **environment)


def test_help_lists_every_verb():
    result = run(PROGRAM, "-h")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.findall(r"^    (\w+)", result.stdout, re.MULTILINE) == list(cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_shows_the_arguments_of_a_verb(verb):
    result = run(PROGRAM, verb, "-h", COLUMNS="120")
    assert (result.returncode, result.stderr) == (0, "")
    assert all(argument in result.stdout for argument in ARGUMENTS[verb])


@pytest.mark.parametrize(("arguments", "message"), [([], "VERB"), (["pth"], "pth"), (["path", "--to"], "--to")])
def test_wrong_use_exits_with_2(arguments, message):
    result = run(PROGRAM, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_path_is_the_folder_of_one_module_and_nothing_else():
    result = run(PROGRAM, "path")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{PLUGIN}\n", "")
    assert {file.name for file in PLUGIN.glob("*") if file.name != "__pycache__"} == {
        "__init__.py",
        "nnunetv2_tpmamba_trainers.py",
    }


def test_verbs_are_known_without_loading_what_they_need():
    result = python(
        f"import sys; from nnunetv2_tpmamba.cli import main; main(['path']); print({{*{HEAVY}}} & {{*sys.modules}})"
    )
    assert result.stdout == f"{PLUGIN}\nset()\n", result.stderr


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError, FileNotFoundError])
def test_an_error_is_one_sentence_on_stderr(error, monkeypatch, capsys):
    monkeypatch.setattr(path_verb, "run", lambda args: fail(error("no such thing; make one")))
    assert cli.main(["path"]) == 1
    assert capsys.readouterr() == ("", "nnUNetv2_tpmamba path: no such thing; make one\n")


def test_a_reader_that_has_seen_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    program = Path(sys.executable).with_name(PROGRAM)
    try:
        result = subprocess.run([program, "path"], stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (1, b"")


def test_an_interrupt_shows_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(path_verb, "run", lambda args: fail(KeyboardInterrupt()))
    assert cli.main(["path"]) == 1
    assert capsys.readouterr() == ("", "nnUNetv2_tpmamba path: interrupted\n")


def test_a_bug_shows_its_traceback(monkeypatch):
    monkeypatch.setattr(path_verb, "run", lambda args: fail(KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        cli.main(["path"])


def fail(error):
    raise error


def test_importing_the_package_is_silent_and_light():
    result = python(f"import sys, nnunetv2_tpmamba; assert not {{*{HEAVY}}} & {{*sys.modules}}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_version_is_the_installed_one():
    assert version("nnunetv2_tpmamba") == nnunetv2_tpmamba.__version__


def test_importing_the_plugin_is_silent_and_leaves_the_gpu_alone():
    result = python(
        "import torch, nnunetv2_tpmamba.trainers.plugin.nnunetv2_tpmamba_trainers\n"
        "assert not torch.cuda.is_initialized()"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


LOOK_UP = """
import inspect, json, pickle, sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
found = {}
for name in sys.argv[1:]:
    trainer = recursive_find_trainer_class_by_name(name)
    found[name] = {
        "name": trainer.__name__,
        "parameters": list(inspect.signature(trainer.__init__).parameters),
        "pickles": pickle.loads(pickle.dumps(trainer)) is trainer,
    }
networks = sorted(name for name in sys.modules if name.startswith("nnunetv2_tpmamba.networks"))
print(json.dumps({"found": found, "networks": networks}))
"""


@pytest.fixture(scope="module")
def found_by_nnunet(module_nnunet):
    """What nnU-Net's own lookup finds with ``nnUNet_extTrainer`` as users set it."""
    environment = {**module_nnunet.environment, "nnUNet_extTrainer": run(PROGRAM, "path").stdout.strip()}
    result = run(Path(sys.executable).name, "-I", "-W", "ignore", "-c", LOOK_UP, *TRAINERS, **environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", TRAINERS)
def test_nnunet_finds_the_trainer(found_by_nnunet, name):
    parameters = list(inspect.signature(nnUNetTrainer.__init__).parameters)
    assert found_by_nnunet["found"][name] == {"name": name, "parameters": parameters, "pickles": True}


def test_looking_trainers_up_imports_no_network(found_by_nnunet):
    assert found_by_nnunet["networks"] == []


def test_other_trainers_are_looked_up_without_loading_ours():
    result = python(
        "import sys, nnunetv2_tpmamba.trainers.plugin.nnunetv2_tpmamba_trainers as plugin\n"
        "print(hasattr(plugin, 'nnUNetTrainerNoMirroring'), 'nnunetv2_tpmamba.trainers.testbed' in sys.modules)"
    )
    assert (result.stdout, result.stderr) == ("False False\n", "")
