"""What ``doctor`` says of the installed packages and of nnU-Net's search for the trainers."""

import os
import re
import sys
from importlib import metadata
from types import ModuleType

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from support.doctor_output import fails_alone
from support.nnunet import PLUGIN, REPOSITORY

from nnunetv2_tpmamba import doctor as checks
from nnunetv2_tpmamba.doctor import Finding

EXPORT = "-> export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)"


def test_our_folder_may_be_one_of_several(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(PLUGIN), str(REPOSITORY)]))
    assert doctor()[0] == 0


def test_a_missing_folder_beside_ours_is_noted(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path / "gone"), str(PLUGIN)]))
    status, output = doctor()
    assert status == 0
    assert f"{tmp_path / 'gone'} in nnUNet_extTrainer does not exist\n      {EXPORT}\n" in output


def test_search_path_is_unset(doctor, monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer")
    status, output = doctor()
    assert status == 1
    assert fails_alone(output) == "nnUNet_extTrainer is not set, so nnU-Net does not find the trainers"
    assert f"\n      {EXPORT}\n" in output


# the package, what holds it, and a clone that is not what is installed
@pytest.mark.parametrize("folder", [*PLUGIN.parents[:3], REPOSITORY, REPOSITORY / "nnunetv2_tpmamba"])
def test_search_path_is_above_ours(doctor, monkeypatch, tmp_path, folder):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(folder), str(PLUGIN)]))
    status, output = doctor()
    assert status == 1
    assert re.match(rf"nnUNet_extTrainer names {folder}, .* torch.compile and pickling cannot use", fails_alone(output))
    assert f"\n      {EXPORT}{os.pathsep}{tmp_path}\n" in output


def test_search_path_is_elsewhere(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    status, output = doctor()
    assert status == 1
    assert fails_alone(output) == f"nnU-Net does not find nnUNetTrainerTPMamba: nnUNet_extTrainer is {tmp_path}"
    assert f"\n      {EXPORT}{os.pathsep}{tmp_path}\n" in output


def test_modules_that_monai_brings_do_not_break_the_search(doctor, monkeypatch):
    """MONAI imports transformers. Its modules of former names, in 5.17, import another one for each question, and
    nnU-Net's search asks every module where it lies. nnUNetv2_train searches before it imports MONAI.
    """

    def answer(name):
        monkeypatch.setitem(sys.modules, f"imported_for_{name}", ModuleType("another"))
        raise AttributeError(name)

    def check():
        module = ModuleType("of_a_former_name")
        module.__file__ = None
        module.__getattr__ = answer
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return Finding("ok", "MONAI")

    monkeypatch.setitem(checks.CHECKS, "MONAI", check)
    assert doctor()[0] == 0
    with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
        recursive_find_trainer_class_by_name("nnUNetTrainerTPMamba")


def test_search_path_does_not_exist(doctor, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "/no/such")
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).endswith("nnUNetTrainerTPMamba: /no/such in nnUNet_extTrainer does not exist")
    assert f"\n      {EXPORT}\n" in output


@pytest.mark.parametrize("leftovers", [False, True])
def test_search_path_of_an_older_version(monkeypatch, tmp_path, leftovers):
    """A shell that still exports the folder in which the trainers were before, where compiled files may be left."""
    former = tmp_path / "nnunetv2_tpmamba" / "plugin"
    if leftovers:
        (former / "__pycache__").mkdir(parents=True)
    gone = f"{former} in nnUNet_extTrainer does not exist any more: the trainers are now in {PLUGIN}"
    advice = ("export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)",)
    monkeypatch.setenv("nnUNet_extTrainer", str(former))
    assert checks.check_trainer() == Finding("FAIL", f"nnU-Net does not find nnUNetTrainerTPMamba: {gone}", advice)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(former), str(PLUGIN)]))
    found = f"nnU-Net finds nnUNetTrainerTPMamba in {PLUGIN.resolve()}"
    assert checks.check_trainer() == Finding("note", f"{found}; {gone}", advice)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('usage: setup.py')", "SystemExit: usage: setup.py"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("class nnUNetTrainerTPMamba: pass", "AssertionError: The requested nnunet trainer class must inherit"),
        (
            "from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba as T\n"
            "class nnUNetTrainerTPMamba(T): pass",
            "ValueError: it finds another class of this name, of the module mine",
        ),
    ],
    ids=["exits", "lacks a package", "has another class", "has a subclass of the same name"],
)
def test_a_folder_before_ours_is_in_the_way(doctor, monkeypatch, tmp_path, code, message):
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(PLUGIN)]))
    status, output = doctor()
    assert status == 1
    assert f"nnU-Net does not find nnUNetTrainerTPMamba: {message}" in fails_alone(output)
    assert f"\n      {EXPORT}{os.pathsep}{tmp_path}\n" in output


def test_version_does_not_fit(doctor, monkeypatch):
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.1" if name == "torch" else installed(name))
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).startswith("torch 2.9.1 is installed, but nnunetv2 needs torch!=2.9.*")
    assert re.search(r"-> pip install 'torch!=2\.9\.\*,>=", output)


def test_nnunet_is_too_old(monkeypatch):
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.6.2" if name == "nnunetv2" else installed(name))
    assert checks.check_versions() == Finding(
        "FAIL",
        "nnunetv2 2.6.2 is installed, but nnunetv2_tpmamba needs nnunetv2>=2.8.1",
        ("pip install 'nnunetv2>=2.8.1'",),
    )


def test_package_is_missing(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert checks.check_versions() == Finding("FAIL", "torch is not installed", ("pip install torch",))


@pytest.mark.parametrize("found", [None, "1.4.0"])
def test_monai_is_missing_or_too_old(monkeypatch, found):
    def version(name):
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr("nnunetv2_tpmamba.networks.baselines.monai.version", version)
    finding = checks.check_monai()
    assert finding.state == "note"
    problem = "MONAI is not installed" if found is None else "MONAI 1.4.0 is installed"
    assert finding.text.startswith(f"{problem}; trainers whose networks need MONAI cannot be used")
    assert finding.advice[0].startswith("pip install 'monai>=1.5'")


def test_torchvision_of_another_source(doctor, tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    status, output = doctor()
    assert status == 1
    assert re.match(
        r"torchvision \S+ cannot be imported: .* torchvision::nms does not exist \(it must come from the same place",
        fails_alone(output),
    )
    assert "pip install --force-reinstall torch torchvision\n" in output
    assert "--index-url https://download.pytorch.org/whl/cpu\n" in output
