"""Checks of what trains: the device, the selective scan, SAM's file, and one training step."""

import os
import shutil
import warnings
from dataclasses import replace

from nnunetv2_tpmamba.config import TPMambaConfig

from .finding import FAIL, NOTE, OK, Finding, in_a_line
from .installation import reinstalling
from .speed import describe_speed
from .variables import check_spelling

COMPILE = "nnUNet_compile"
MPS_FALLBACK = "export PYTORCH_ENABLE_MPS_FALLBACK=1, so that the CPU computes what PyTorch cannot on a Mac's GPU"
GET_TORCH = "install a torch for this machine's GPU and driver: https://pytorch.org/get-started/locally"
STEP_CONFIG = replace(
    TPMambaConfig(),
    embed_dim=96,
    depth=4,
    num_heads=2,
    global_attn_indexes=(1, 3),
    encoder_image_size=96,
)


def check_device() -> Finding:
    """Check which device will train, and say what that means for speed."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        device = best_device()
    if device == "cuda":
        return check_gpu()
    if device == "mps":
        text = "this Mac's GPU (mps); nobody has tested this package on a Mac, and how fast it is there is not known"
        return Finding(
            NOTE, text, ("train and predict with -device mps, or with -device cpu", f"perhaps {MPS_FALLBACK}")
        )
    advice = [
        "to try things here: nnUNetv2_tpmamba demo, or -tr nnUNetTrainerTPMamba_demo -device cpu",
        "on a cluster, run this command on the node that trains",
    ]
    reasons = [str(warning.message) for warning in caught if "CUDA" in str(warning.message)]
    if reasons or shutil.which("nvidia-smi"):
        said = reasons[0].strip().partition("\n")[0] if reasons else f"torch {torch.__version__} finds no GPU"
        advice.append(f"there is an NVIDIA driver, but {said}; check CUDA_VISIBLE_DEVICES, or {GET_TORCH}")
    return Finding(NOTE, f"no GPU: {describe_speed()}", tuple(advice))


def check_gpu() -> Finding:
    """Check that torch can compute and compile for the first GPU."""
    import torch

    gpu = torch.cuda.get_device_properties(0)
    text = f"GPU {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"
    try:
        with torch.autocast("cuda", torch.float16):
            x = torch.eye(16, device="cuda")
            works = (x @ x).dtype == torch.float16 and bool((x @ x == x).all())
    except RuntimeError as error:  # for instance, this torch has no kernels for this GPU
        return Finding(FAIL, f"{text}: {in_a_line(error)}", (GET_TORCH,))
    if not works:
        return Finding(FAIL, f"{text}: a product under fp16 autocast is wrong", (GET_TORCH,))
    compiles = os.name != "nt" and os.environ.get(COMPILE, "t").lower() in ("true", "1", "t")  # as nnU-Net decides
    if compiles and not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        text = f"{text}: there is no C compiler for torch.compile, which nnU-Net uses on a GPU"
        return Finding(FAIL, text, ("install gcc", f"or export {COMPILE}=f"))
    return Finding(OK, f"{text}, fp16 autocast works")


def check_scan() -> Finding:
    """Check which implementation of the selective scan runs, and that its results are right."""
    import torch

    from nnunetv2_tpmamba.networks.ops.implementations import implementation_for, why_unusable

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
    """Check that SAM's file is there, complete and finite; nothing is downloaded."""
    from nnunetv2_tpmamba.networks.sam.download import ENVIRONMENT_VARIABLE, find_sam_checkpoint
    from nnunetv2_tpmamba.networks.sam.errors import SamFileError
    from nnunetv2_tpmamba.networks.sam.known import identify_file
    from nnunetv2_tpmamba.networks.sam.models import VIT_B
    from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint_of_any_size

    if finding := check_spelling(ENVIRONMENT_VARIABLE):
        return finding
    try:
        path = find_sam_checkpoint(download=False)
        model, weights = read_sam_checkpoint_of_any_size(path)
        encoder = identify_file(path, weights, model)
    except (OSError, ValueError) as error:
        advice = (
            "with internet access: nnUNetv2_tpmamba weights",
            f"without: copy Meta's {VIT_B.meta_file} here and export {ENVIRONMENT_VARIABLE}=/path/to/{VIT_B.meta_file}",
            "nnUNetTrainerTPMamba_small, _scratch and _demo train without the file, and no prediction needs it",
        )
        return Finding(FAIL, f"SAM file: {error.reason if isinstance(error, SamFileError) else error}", advice)
    text = f"SAM file: {path}, {encoder}; all {len(weights)} tensors of the image encoder are there and finite"
    if model is VIT_B:
        return Finding(OK, text)
    return Finding(NOTE, text, (f"train it with -tr {model.trainer}; other trainers need {VIT_B.title}",))


def check_step() -> Finding:
    """Take one training step of a tiny network, on a GPU under fp16 autocast as nnU-Net does."""
    import torch

    from nnunetv2_tpmamba.networks.tpmamba import TPMamba

    device = torch.device(best_device())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TPMamba(1, 2, STEP_CONFIG).to(device)
        volume = torch.rand(1, 1, 4, 16, 16, device=device)
        target = torch.randint(2, (1, 4, 16, 16), device=device)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    try:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            loss = torch.nn.functional.cross_entropy(network(volume), target)
        loss.backward()
        optimizer.step()
    except NotImplementedError as error:  # as PyTorch says of an operator that it lacks on mps
        return Finding(FAIL, f"training step on {device}: {in_a_line(error)}", (MPS_FALLBACK, "or use -device cpu"))
    if not all(bool(x.isfinite().all()) for x in (loss, *network.parameters())):
        text = f"training step: the loss ({loss.item()}) or the step after it is not finite on {device}"
        return Finding(FAIL, text, reinstalling("torch"))
    return Finding(OK, f"training step: a tiny network's forward, backward and AdamW step work on {device}")


def best_device() -> str:
    """Choose CUDA if there is a GPU for it, else a Mac's GPU, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_models() -> Finding:
    """Warn of what no check can see."""
    return Finding(NOTE, "models are pickle files, which can run code when they are loaded: use only ones you trust")
