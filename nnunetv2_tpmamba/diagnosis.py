"""The checks of ``nnUNetv2_tpmamba doctor``: each looks at one thing that training needs and says what it found.

torch, timm and nnU-Net are imported inside the checks, because whether that works is itself a finding.
"""

import contextlib
import importlib
import io
import os
import pickle
import platform
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from . import __version__, plugin
from .config import TPMambaConfig

OK, NOTE, FAIL = "ok", "note", "FAIL"

SEARCHED, COMPILE = "nnUNet_extTrainer", "nnUNet_compile"
RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
TRAINER = "nnUNetTrainerTPMamba"
TRAINER_MODULE = "nnunetv2_tpmamba.trainer"
PLUGIN = Path(plugin.__path__[0])
LITTLE_SPACE = 10.0  # GiB
GET_TORCH = "install a torch for this machine's GPU and driver: https://pytorch.org/get-started/locally"
TINY = replace(
    TPMambaConfig(),
    embed_dim=96,
    depth=4,
    num_heads=2,
    global_attn_indexes=(1, 3),
    encoder_image_size=96,
)


class Finding(NamedTuple):
    """``OK``, ``NOTE`` (works, but should be known) or ``FAIL`` (training cannot start); why; and what to do."""

    state: str
    text: str
    advice: tuple[str, ...] = ()


def examine(title: str, check: Callable[[], Finding]) -> Finding:
    """Run one check, hold back what other packages print meanwhile, and turn an error into a finding."""
    unseen = io.StringIO()
    try:
        with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check()
    except (Exception, SystemExit) as error:  # any script exits, once nnU-Net imports it in search of trainers
        return Finding(FAIL, f"{title}: {in_a_line(error)}")


def in_a_line(error: BaseException) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


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


def check_raw() -> Finding:
    """``nnUNet_raw``, which is read until the data at 1 mm are there."""
    finding = check_folder(RAW, is_written=False)
    preprocessed = os.environ.get(PREPROCESSED)
    if finding.state == FAIL and preprocessed and any(Path(preprocessed).glob("Dataset*/*_tpmamba*")):
        text = f"{finding.text}; only what is preprocessed for TP-Mamba already can be trained"
        return Finding(NOTE, text, finding.advice)
    return finding


def check_folder(variable: str, is_written: bool) -> Finding:
    value = os.environ.get(variable, "")
    if not value.strip():
        return Finding(FAIL, f"{variable} is not set; nnU-Net needs it", (f"export {variable}=/path/to/{variable}",))
    folder, choose = Path(value), f"export {variable}=/another/folder"
    if folder.exists() and not folder.is_dir():
        return Finding(FAIL, f"{variable}={value} is a file, not a folder", (choose,))
    if not folder.exists():
        if is_written and folder.parent.is_dir() and not why_not_writable(folder.parent):
            return Finding(NOTE, f"{variable}={value} does not exist yet; nnU-Net makes it")
        return Finding(FAIL, f"{variable}={value} does not exist", (f"mkdir -p {shlex.quote(value)}", f"or {choose}"))
    if not is_written:
        if not os.access(folder, os.R_OK | os.X_OK):
            return Finding(FAIL, f"{variable}={value} cannot be read", ("ask its owner for access", f"or {choose}"))
        return Finding(OK, f"{variable}={value}")
    if problem := why_not_writable(folder):
        return Finding(FAIL, f"{variable}={value} cannot be written to: {problem}", (choose,))
    free = shutil.disk_usage(folder).free / 2**30
    if free < LITTLE_SPACE:
        return Finding(NOTE, f"{variable}={value}: only {free:.1f} GiB are free", (f"make room, or {choose}",))
    return Finding(OK, f"{variable}={value} ({free:.0f} GiB free)")


def why_not_writable(folder: Path) -> str:
    """Try it, because permissions say nothing about read-only file systems and quotas; "" if it works."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or in_a_line(error)
    return ""


def check_device() -> Finding:
    """What will train, and what that means for speed."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return check_gpu()
    advice = [
        "to try things here: -tr nnUNetTrainerTPMamba_small -device cpu, or nnUNetv2_tpmamba demo",
        "on a cluster, run this command on the node that trains",
    ]
    reasons = [str(warning.message) for warning in caught if "CUDA" in str(warning.message)]
    if reasons or shutil.which("nvidia-smi"):
        said = reasons[0].strip().partition("\n")[0] if reasons else f"torch {torch.__version__} finds no GPU"
        advice.append(f"there is an NVIDIA driver, but {said}; check CUDA_VISIBLE_DEVICES, or {GET_TORCH}")
    if torch.backends.mps.is_available():
        advice.append("this Mac's GPU (-device mps) was never tested with this package")
    text = "no GPU: one forward of the full-size network on a 96 mm cube takes about 20 s on 2 CPU cores"
    return Finding(NOTE, text, tuple(advice))


def check_gpu() -> Finding:
    import torch

    gpu = torch.cuda.get_device_properties(0)
    text = f"GPU {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"
    try:
        with torch.autocast("cuda", torch.float16):
            x = torch.eye(16, device="cuda")
            works = (x @ x).dtype == torch.float16 and bool((x @ x == x).all())
    except RuntimeError as error:  # such as no kernel in this torch for this GPU
        return Finding(FAIL, f"{text}: {in_a_line(error)}", (GET_TORCH,))
    if not works:
        return Finding(FAIL, f"{text}: a product under fp16 autocast is wrong", (GET_TORCH,))
    compiles = os.name != "nt" and os.environ.get(COMPILE, "t").lower() in ("true", "1", "t")  # as nnU-Net decides
    if compiles and not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        text = f"{text}: there is no C compiler for torch.compile, which nnU-Net uses on a GPU"
        return Finding(FAIL, text, ("install gcc", f"or export {COMPILE}=f"))
    return Finding(OK, f"{text}, fp16 autocast works")


def check_scan() -> Finding:
    """Which implementation of the selective scan runs, and is it right?"""
    import torch

    from .ops.implementations import implementation_for, why_unusable

    device = best_device()
    scan = implementation_for(device)
    if problem := why_unusable(scan, torch.device(device)):
        return Finding(FAIL, f"selective scan: {scan.name} on {device} does not work: {problem}", reinstalling("torch"))
    text = f"selective scan: {scan.name} on {device}; its output and gradients agree with the reference"
    if scan.note:
        known = {
            "numba": reinstalling("numba"),
            "Triton": (f"Triton comes with torch on Linux and needs gcc; install gcc, or {reinstalling('torch')[0]}",),
            "mamba-ssm": ("mamba-ssm is optional: it is this package's extra [cuda]",),
        }
        advice = [line for name, lines in known.items() if f"{name} not used" in scan.note for line in lines]
        return Finding(NOTE, f"{text}; {scan.note}", tuple(advice))
    return Finding(OK, text)


def check_sam() -> Finding:
    """Is SAM's file there, complete and finite? Nothing is downloaded."""
    from .sam_weights import ENVIRONMENT_VARIABLE, META_FILE, NEEDED, find_sam_checkpoint, read_sam_checkpoint

    try:
        path = find_sam_checkpoint(download=False)
        weights = read_sam_checkpoint(path)
    except (OSError, ValueError) as error:
        advice = (
            "with internet access: nnUNetv2_tpmamba weights",
            f"without: copy Meta's {META_FILE} here and export {ENVIRONMENT_VARIABLE}=/path/to/{META_FILE}",
            "nnUNetTrainerTPMamba_small, _scratch and _demo train without the file, and no prediction needs it",
        )
        return Finding(FAIL, f"SAM file: {str(error).removesuffix(f'; {NEEDED}')}", advice)
    return Finding(OK, f"SAM file: {path}, all {len(weights)} tensors of the image encoder are there and finite")


def check_step() -> Finding:
    """One training step of a tiny network, under fp16 autocast on a GPU as nnU-Net trains."""
    import torch

    from .network import TPMamba

    device = torch.device(best_device())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TPMamba(1, 2, TINY).to(device)
        volume = torch.rand(1, 1, 4, 16, 16, device=device)
        target = torch.randint(2, (1, 4, 16, 16), device=device)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        loss = torch.nn.functional.cross_entropy(network(volume), target)
    loss.backward()
    optimizer.step()
    if not all(bool(x.isfinite().all()) for x in (loss, *network.parameters())):
        text = f"training step: the loss ({loss.item()}) or the step after it is not finite on {device}"
        return Finding(FAIL, text, reinstalling("torch"))
    return Finding(OK, f"training step: a tiny network's forward, backward and AdamW step work on {device}")


def best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_models() -> Finding:
    """What no check can see."""
    return Finding(NOTE, "models are pickle files, which can run code when they are loaded: use only ones you trust")


CHECKS: dict[str, Callable[[], Finding]] = {
    "versions": check_versions,
    SEARCHED: check_trainer,
    RAW: check_raw,
    PREPROCESSED: partial(check_folder, PREPROCESSED, is_written=True),
    RESULTS: partial(check_folder, RESULTS, is_written=True),
    "device": check_device,
    "selective scan": check_scan,
    "SAM file": check_sam,
    "training step": check_step,
    "models": check_models,
}
