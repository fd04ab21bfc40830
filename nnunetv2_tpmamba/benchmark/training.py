"""A training step as nnU-Net's trainer takes it: forward, loss, backward, gradient clipping, optimiser."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

from nnunetv2_tpmamba.config import Testbed, TPMambaConfig
from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet, plan_unet
from nnunetv2_tpmamba.networks.tpmamba import TPMamba
from nnunetv2_tpmamba.trainers.optimization import build_optimizer

from .measure import clock
from .network import GRID6, OURS, STOCK, compiled, patch_of, predicting, random_volume, whole_network
from .setting import Setting
from .task import Contestant, Makers, Task

LARGEST_GRADIENT = 12  # nnUNetTrainer.train_step


def tasks(setting: Setting) -> list[Task]:
    """List the plain training step and, on a GPU, also the compiled one, which is how nnU-Net trains there."""
    compiles = setting.device.type == "cuda" and setting.compiles
    steps = {"training step": False} | ({"compiled training step": True} if compiles else {})
    return [
        Task("network", f"{title}, {patch_of(setting)}, batch of 1", partial(_steps, setting, compiles))
        for title, compiles in steps.items()
    ]


def training_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, volume: Tensor, target: Tensor, setting: Setting
) -> Callable[[], None]:
    """Return a function that takes one step, with deep supervision where the network has several outputs.

    Source: ``nnUNetTrainer.train_step`` and ``_build_loss``.
    """
    scaler = torch.amp.GradScaler(setting.device.type, enabled=setting.device.type == "cuda")
    loss = DC_and_CE_loss(
        {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )

    def supervised(output: Tensor | list[Tensor]) -> Tensor:
        if isinstance(output, Tensor):
            return loss(output, target)
        weights = [2.0**-i for i in range(len(output) - 1)]
        targets = [F.interpolate(target, x.shape[2:], mode="nearest") for x in output]
        return DeepSupervisionWrapper(loss, [w / sum(weights) for w in weights] + [0.0])(list(output), targets)

    def step() -> None:
        if not network.training:  # saying it again would let kept weights be cast again at every step
            network.train()
        optimizer.zero_grad(set_to_none=True)
        with setting.autocast():
            value = supervised(network(volume))
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        scaler.step(optimizer)
        scaler.update()

    return step


def _steps(setting: Setting, compiles: bool) -> Makers:
    volume = random_volume(setting, setting.patch_size)
    target = torch.randint(setting.num_classes, volume.shape, device=setting.device).to(volume.dtype)

    @cache
    def ours(config: TPMambaConfig) -> tuple[TPMamba, torch.optim.Optimizer]:
        network = setting.build(lambda: TPMamba(1, setting.num_classes, config))
        return network, build_optimizer(network, Testbed.initial_lr, Testbed.weight_decay)

    def stepping(
        network: nn.Module, optimizer: torch.optim.Optimizer, setting: Setting = setting, **others: Any
    ) -> Contestant:
        runs = compiled(network) if compiles else network
        step = training_step(runs, optimizer, volume, target, setting)
        return whole_network(network, step, setting.patch_size, setting, optimizer, **others)

    def ours_in(setting: Setting, **others: Any) -> Contestant:
        return stepping(*ours(setting.config), setting, **others)

    def stock() -> Contestant:
        network = setting.build(lambda: build_unet(1, setting.num_classes, plan_unet(setting.patch_size)))
        optimizer = torch.optim.SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
        return stepping(network, optimizer, note="nnU-Net plans batches of 2")

    def checkpointed(setting: Setting = setting) -> Contestant:
        network, optimizer = ours(setting.config)
        contestant = stepping(network, optimizer, setting, against=OURS)

        def step() -> object:
            network.checkpointing = True
            try:
                return contestant.call() if contestant.call else None
            finally:
                network.checkpointing = False

        return replace(contestant, call=step)

    def forward() -> Contestant:
        call = predicting(ours(setting.config)[0], volume, setting)
        note = "not compiled; the ratio is its share of a step" if compiles else "the ratio is its share of a step"
        return Contestant(
            lambda: clock(call, setting.device)[0], times_itself=True, against=OURS, warm_up=lambda: None, note=note
        )

    return {
        STOCK: stock,
        OURS: partial(ours_in, setting),
        f"{OURS}, checkpointing": checkpointed,
        GRID6: lambda: stepping(*ours(setting.grid6)),
        f"forward of {OURS}": forward,
        **{f"{OURS}, {other.precision}": partial(ours_in, other, against=OURS) for other in setting.lowered()},
        **{f"{OURS}, checkpointing, {other.precision}": partial(checkpointed, other) for other in setting.lowered()},
    }
