"""Checks of the installation: versions of the packages, and whether nnU-Net finds the trainers."""

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
from .variables import check_spelling

SEARCHED = "nnUNet_extTrainer"
TRAINER = "nnUNetTrainerTPMamba"
TRAINER_MODULE = "nnunetv2_tpmamba.trainers.tpmamba"
PLUGIN = Path(plugin.__path__[0])
PLUGIN_MODULE = "nnunetv2_tpmamba_trainers.py"
FORMER_PLUGIN = ("nnunetv2_tpmamba", "plugin")  # the end of that folder's path in older versions


def check_versions() -> Finding:
    """Check that the packages are there, in versions that go together, and that they import."""
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
        except Exception as error:  # compiled parts that do not fit raise RuntimeError or OSError
            text = f"{name} {versions[name]} cannot be imported: {in_a_line(error)}"
            if name == "torchvision":
                text += f" (it must come from the same place as torch, which is {versions['torch']})"
            return Finding(FAIL, text, reinstalling(name))
        versions[name] = getattr(module, "__version__", versions[name])  # torch's also names the CUDA it was built for
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding(OK, f"python {platform.python_version()}, nnunetv2_tpmamba {__version__}, {listed}")


def requirements(package: str) -> Iterator[tuple[str, str]]:
    """List name and accepted versions of everything that an installed package needs here."""
    from packaging.requirements import Requirement

    for line in metadata.requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name, str(requirement.specifier)


def fits(version: str, needed: str) -> bool:
    """Say whether a version is among those needed, such as ``>=2.8.1``."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(needed).contains(version, prereleases=True)


def reinstalling(name: str) -> tuple[str, ...]:
    """Advise how to install a package anew; torch and torchvision must come from one source."""
    if name not in ("torch", "torchvision"):
        return (f"pip install --force-reinstall {name}",)
    pip = "pip install --force-reinstall torch torchvision"
    return (pip, f"or, to have both for the CPU only: {pip} --index-url https://download.pytorch.org/whl/cpu")


def check_monai() -> Finding:
    """Look for MONAI, without which the paper's method can be trained, but not all that it is compared with."""
    from nnunetv2_tpmamba.networks.baselines.monai import ADVICE, OLDEST, find_problem

    problem = find_problem()
    if problem:
        text = f"{problem}; trainers whose networks need MONAI cannot be used before {OLDEST} or newer is there"
        return Finding(NOTE, text, (ADVICE,))
    return Finding(OK, f"MONAI {metadata.version('monai')}")


def check_trainer() -> Finding:
    """Check that nnU-Net finds the trainer through ``nnUNet_extTrainer``, and that the class can be pickled."""
    value = os.environ.get(SEARCHED, "")
    if os.pathsep not in value and (finding := check_spelling(SEARCHED)):
        return finding
    folders = [Path(folder) for folder in value.split(os.pathsep) if folder.strip()]
    ours = PLUGIN.resolve()
    missing = [folder for folder in folders if not folder.exists() or is_former(folder)]
    others = [f for f in folders if f not in missing and f.resolve() != ours and not is_above_trainers(f)]
    export = os.pathsep.join([f"export {SEARCHED}=$(nnUNetv2_tpmamba path)", *(shlex.quote(str(f)) for f in others)])
    if not folders:
        return Finding(FAIL, f"{SEARCHED} is not set, so nnU-Net does not find the trainers", (export,))
    for folder in takewhile(lambda folder: folder.resolve() != ours, folders):  # nnU-Net stops at the first trainer
        if is_above_trainers(folder):
            text = f"{SEARCHED} names {folder}, which is above the trainers' folder: from there nnU-Net finds nothing,"
            return Finding(FAIL, f"{text} or classes that torch.compile and pickling cannot use", (export,))

    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    verb = "does" if len(missing) == 1 else "do"
    skipped = f"{' and '.join(map(str, missing))} in {SEARCHED} {verb} not exist" if missing else ""
    if any(map(is_former, missing)):
        skipped = f"{skipped} any more: the trainers are now in {ours}"
    try:
        trainer = recursive_find_trainer_class_by_name(TRAINER)
        if trainer.__module__ != TRAINER_MODULE or pickle.loads(pickle.dumps(trainer)) is not trainer:
            raise ValueError(f"it finds another class of this name, of the module {trainer.__module__}")
    except (Exception, SystemExit) as error:
        not_found = str(error).startswith("Could not find requested")  # nnU-Net goes on for four lines
        problem = (skipped or f"{SEARCHED} is {value}") if not_found else in_a_line(error)
        return Finding(FAIL, f"nnU-Net does not find {TRAINER}: {problem}", (export,))
    found = f"nnU-Net finds {TRAINER} in {ours}"
    return Finding(NOTE, f"{found}; {skipped}", (export,)) if skipped else Finding(OK, found)


def is_former(folder: Path) -> bool:
    """Say whether this is where an older version had its trainers; compiled files may still lie there."""
    return folder.parts[-2:] == FORMER_PLUGIN and not Path(folder, PLUGIN_MODULE).exists()


def is_above_trainers(folder: Path) -> bool:
    """Say whether this is a folder above ours, or the root of another copy's package or repository."""
    *_, package, trainers, name = PLUGIN.parts
    copies = (Path(name), Path(trainers, name), Path(package, trainers, name))
    return folder.resolve() in PLUGIN.resolve().parents or any((folder / x / PLUGIN_MODULE).is_file() for x in copies)
