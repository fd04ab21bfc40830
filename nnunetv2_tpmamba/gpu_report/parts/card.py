"""The card, its driver, and the checks of ``nnUNetv2_tpmamba doctor`` that need no user's folders."""

import shutil
import subprocess

import torch

from nnunetv2_tpmamba.doctor import CHECKS
from nnunetv2_tpmamba.doctor.finding import FAIL
from nnunetv2_tpmamba.gpu_report.notebook import Notebook
from nnunetv2_tpmamba.gpu_report.work import Work

CHECKED = (
    "versions",
    "nnUNet_extTrainer",
    "MONAI",
    "device",
    "selective scan",
    "training step",
)  # in the doctor's order
ASKED = ("driver_version", "memory.total", "memory.used", "utilization.gpu", "power.limit", "clocks.max.sm")
ANSWER_TIME = 15  # seconds


def measure(work: Work) -> None:
    torch.backends.cudnn.benchmark = False  # as in doctor; nothing is timed, and trying algorithms takes long
    if work.setting.device.type == "cuda":
        describe_cards(work.notebook)
    ask_driver(work.notebook)
    for name in CHECKED:
        finding = CHECKS[name]()
        work.notebook.check(f"doctor: {name}", finding.state != FAIL, f"{finding.state}: {finding.text}")


def describe_cards(notebook: Notebook) -> None:
    """Tell what PyTorch knows of the cards and can do with them."""
    notebook.note("cards", torch.cuda.device_count())
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        notebook.note(
            f"card {index}",
            f"{card.name}, compute capability {card.major}.{card.minor}, {card.multi_processor_count} "
            f"multiprocessors, {card.total_memory / 1e9:.1f} GB",
        )
    free, _ = torch.cuda.mem_get_info()
    notebook.note("free memory of card 0", round(free / 1e9, 2), "GB")
    notebook.note("CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}")
    notebook.note("computes in bf16", str(torch.cuda.is_bf16_supported()))
    notebook.note("kernels of this torch", " ".join(torch.cuda.get_arch_list()))


def ask_driver(notebook: Notebook) -> None:
    """Tell what ``nvidia-smi`` says; its state before this program took the card shows who else uses it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        notebook.note("nvidia-smi", "not found")
        return
    question = [program, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=ANSWER_TIME, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        notebook.note("nvidia-smi", f"{type(error).__name__}: {error}")
        return
    for index, line in enumerate(answer.stdout.strip().splitlines()):
        facts = zip(ASKED, line.split(", "), strict=False)
        notebook.note(f"nvidia-smi {index}", ", ".join(f"{name} {value}" for name, value in facts))
