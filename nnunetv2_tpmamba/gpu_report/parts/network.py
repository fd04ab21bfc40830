"""The full-size network, not compiled: its numbers under autocast against float32, and memory by count and for real."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from nnunetv2_tpmamba.benchmark.network import GRID6, OURS, random_volume
from nnunetv2_tpmamba.benchmark.peak_memory import PeakMemory, free, held_bytes
from nnunetv2_tpmamba.benchmark.setting import FLOAT32
from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.gpu_report.work import Work
from nnunetv2_tpmamba.networks.ops.implementations import first_line
from nnunetv2_tpmamba.networks.tpmamba import TPMamba
from nnunetv2_tpmamba.trainers.memory import MARGIN, training_step_bytes

LARGEST_ERROR = 0.02  # norm of the logits' difference beside the norm of the logits, as tests/networks/test_tpmamba.py
STEPS = 2  # AdamW has its moments after the first


def measure(work: Work) -> None:
    configs = {OURS: work.setting.config, GRID6: work.setting.grid6}
    for name, config in configs.items():
        compare_precisions(work, name, config)
        free(work.setting.device)
    for name, config in configs.items():  # later, because counting takes seconds
        for checkpointing in (False, True):
            try:
                compare_memory(work, name, replace(config, checkpointing=checkpointing))
            except torch.OutOfMemoryError as error:
                work.notebook.note(
                    f"{name}{', checkpointing' if checkpointing else ''}: does not fit", first_line(error)
                )
            free(work.setting.device)


def compare_precisions(work: Work, name: str, config: TPMambaConfig) -> None:
    """Compare the logits of one patch under nnU-Net's precision on this device with those in float32."""
    torch.manual_seed(0)
    network = awake(work.setting.build(lambda: TPMamba(1, work.setting.num_classes, config))).eval()
    volume = random_volume(work.setting, work.setting.patch_size)

    def logits(precision: str) -> Tensor:
        with torch.no_grad(), replace(work.setting, precision=precision).autocast():
            return network(volume).float()

    exact, fast = logits(FLOAT32), logits(work.setting.precision)
    error = float((fast - exact).norm() / exact.norm())
    equal = float((fast.argmax(1) == exact.argmax(1)).float().mean())
    title = f"{name}: {work.setting.precision} against float32"
    work.notebook.check(f"{title}, relative error of the logits", error < LARGEST_ERROR, float(f"{error:.2e}"))
    work.notebook.note(f"{title}, voxels of the same label, although nothing is trained", f"{equal:.3%}")


def awake(network: TPMamba) -> TPMamba:
    """Give weights to the layers that start at zero, so that the adapters do something."""
    for adapter in network.adapters:
        for parameter in adapter.parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.01)
    return network


def compare_memory(work: Work, name: str, config: TPMambaConfig) -> None:
    """Compare the peak of a training step with what ``decide_checkpointing`` counts."""
    setting = work.setting
    network = setting.build(lambda: TPMamba(1, setting.num_classes, config))
    shape = (1, 1, *setting.patch_size)
    counted = training_step_bytes(network, shape, setting.device.type)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    held = held_bytes(network)
    with PeakMemory(setting.device) as memory:
        for _ in range(STEPS):
            with setting.autocast():
                logits = network(random_volume(setting, setting.patch_size))
            logits.float().log_softmax(1).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            del logits
    title = f"{name}{', checkpointing' if config.checkpointing else ''}: peak of a step against its count"
    if memory.bytes is None:
        work.notebook.note(title, "the peak cannot be measured here")
    else:
        peak = memory.bytes + held
        text = f"{peak / 1e9:.2f} against {counted / 1e9:.2f} GB, a ratio of {peak / counted:.2f}"
        if setting.device.type == "cuda":
            work.notebook.check(title, peak < MARGIN * counted, text)
        else:  # a CPU's resident memory holds more than tensors
            work.notebook.note(title, text)
