"""Are the packages there, do they go together, and does nnU-Net find the trainer among them?"""

import importlib
import os
import pickle
import platform
import shlex
from collections.abc import Iterator
from importlib import metadata
from itertools import takewhile
from pathlib import Path

from nnunetv2_tpmamba import __version__
from nnunetv2_tpmamba.trainers import plugin

from .finding import FAIL, NOTE, OK, Finding, in_a_line

SEARCHED = "nnUNet_extTrainer"
TRAINER = "nnUNetTrainerTPMamba"
TRAINER_MODULE = "nnunetv2_tpmamba.trainers.tpmamba"
PLUGIN = Path(plugin.__path__[0])


def check_versions() -> Finding:
    """Are the packages there, in versions that go together, and do they import?"""
    versions = {}
    for name in ("torch", "torchvision", "nnunetv2", "timm"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            return Finding(FAIL, f"{name} is not installed", (f"pip install {name}",))
    for package in ("nnunetv2_tpmamba", "nnunetv2", "dynamic-network-architectures"):
        for name, needed in requirements(package):
            if name in versions and not fits(versions[name], needed):
                text = f"{name} {versions[name]} is installed, but {package} needs {name}{needed}"
                return Finding(FAIL, text, (f"pip install '{name}{needed}'",))
    for name in tuple(versions):
        try:
            module = importlib.import_module(name)
        except Exception as error:  # ImportError, and RuntimeError or OSError where compiled parts do not fit
            text = f"{name} {versions[name]} cannot be imported: {in_a_line(error)}"
            if name == "torchvision":
                text += f" (it must come from the same place as torch, which is {versions['torch']})"
            return Finding(FAIL, text, reinstalling(name))
        versions[name] = getattr(module, "__version__", versions[name])  # torch's ends in what it was built for
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding(OK, f"python {platform.python_version()}, nnunetv2_tpmamba {__version__}, {listed}")


def requirements(package: str) -> Iterator[tuple[str, str]]:
    from packaging.requirements import Requirement

    for line in metadata.requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name, str(requirement.specifier)


def fits(version: str, needed: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(needed).contains(version, prereleases=True)


def reinstalling(name: str) -> tuple[str, ...]:
    if name not in ("torch", "torchvision"):
        return (f"pip install --force-reinstall {name}",)
    pip = "pip install --force-reinstall torch torchvision"
    return (pip, f"or, to have both for the CPU only: {pip} --index-url https://download.pytorch.org/whl/cpu")


def check_trainer() -> Finding:
    """Does nnU-Net find the trainer through ``nnUNet_extTrainer``, and can the class be pickled?"""
    value = os.environ.get(SEARCHED, "")
    folders = [Path(folder) for folder in value.split(os.pathsep) if folder.strip()]
    ours = PLUGIN.resolve()
    missing = [folder for folder in folders if not folder.exists()]
    others = [f for f in folders if f not in missing and f.resolve() != ours and not is_above_trainers(f)]
    export = os.pathsep.join([f"export {SEARCHED}=$(nnUNetv2_tpmamba path)", *(shlex.quote(str(f)) for f in others)])
    if not folders:
        return Finding(FAIL, f"{SEARCHED} is not set, so nnU-Net does not find the trainers", (export,))
    for folder in takewhile(lambda folder: folder.resolve() != ours, folders):  # nnU-Net stops where it finds one
        if is_above_trainers(folder):
            text = f"{SEARCHED} names {folder}, which is above the trainers' folder: from there nnU-Net finds nothing,"
            return Finding(FAIL, f"{text} or classes that torch.compile and pickling cannot use", (export,))

    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    skipped = f"{' and '.join(map(str, missing))} in {SEARCHED} does not exist" if missing else ""
    try:
        trainer = recursive_find_trainer_class_by_name(TRAINER)
        if trainer.__module__ != TRAINER_MODULE or pickle.loads(pickle.dumps(trainer)) is not trainer:
            raise ValueError(f"it finds another class of this name, of the module {trainer.__module__}")
    except (Exception, SystemExit) as error:
        not_found = str(error).startswith("Could not find requested")  # nnU-Net's words, four lines of them
        problem = (skipped or f"{SEARCHED} is {value}") if not_found else in_a_line(error)
        return Finding(FAIL, f"nnU-Net does not find {TRAINER}: {problem}", (export,))
    found = f"nnU-Net finds {TRAINER} in {ours}"
    return Finding(NOTE, f"{found}; {skipped}", (export,)) if skipped else Finding(OK, found)


def is_above_trainers(folder: Path) -> bool:
    """Is this a folder above ours, or the package or repository root of another copy, such as a clone?"""
    trainers = Path(PLUGIN.name, "nnunetv2_tpmamba_trainers.py")
    copies = (folder / trainers, folder / PLUGIN.parent.name / trainers)
    return folder.resolve() in PLUGIN.resolve().parents or any(copy.is_file() for copy in copies)
