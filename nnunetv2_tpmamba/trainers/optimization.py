"""What is optimised how: AdamW's parameter groups and the schedule of the learning rate."""

from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups of what trains; norms, biases, positions, A_log and D are spared weight decay."""
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim < 2 or "A_log" in name or "pos" in name.rpartition(".")[2]
            (undecayed if spared else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]


class WarmupPolyLR(PolyLRScheduler):
    """nnU-Net's schedule, scaled by 1/(w+1), 2/(w+1), ... in the first w epochs; nnU-Net's own for w = 0."""

    def __init__(self, optimizer: torch.optim.Optimizer, initial_lr: float, max_steps: int, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, initial_lr, max_steps)

    def step(self, current_step: int | None = None) -> None:
        super().step(current_step)
        if current_step is not None and current_step < self.warmup_steps:
            for group in self.optimizer.param_groups:
                group["lr"] *= (current_step + 1) / (self.warmup_steps + 1)
