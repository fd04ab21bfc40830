"""The whole network's forward pass of a patch, beside timm's encoder on the same slices and nnU-Net's own network."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet, plan_unet
from nnunetv2_tpmamba.networks.ops.implementations import Implementation, using
from nnunetv2_tpmamba.networks.tpmamba import TPMamba

from .encoder import sam_encoder, timm_blocks, timm_forward
from .measure import clock
from .peak_memory import held_bytes
from .setting import Setting
from .task import Contestant, Makers, Task

OURS, GRID6, STOCK = "TPMamba", "TPMamba_grid6", "stock nnU-Net"


def tasks(setting: Setting) -> list[Task]:
    result = []
    for name, config in ((OURS, setting.config), (GRID6, setting.grid6)):
        h, w = setting.grid_of(config)
        title = f"forward, {patch_of(setting)}, {h} x {w} grid"
        result.append(Task("network", title, partial(_forward, setting, name, config)))
    return result


def patch_of(setting: Setting) -> str:
    return " x ".join(map(str, setting.patch_size))


def random_volume(setting: Setting, size: tuple[int, ...]) -> Tensor:
    return torch.rand(1, 1, *size, device=setting.device)


def predicting(network: nn.Module, volume: Tensor, setting: Setting) -> Callable[[], None]:
    """Return a function that segments ``volume`` once, without gradients."""

    def forward() -> None:
        if network.training:  # saying it again would let kept weights be computed again at every call
            network.eval()
        with torch.no_grad(), setting.autocast():
            network(volume)

    return forward


def compiled(network: nn.Module) -> Any:
    """Compile as nnU-Net does, but also a network that is like one compiled before.

    torch stops compiling a piece of code after eight variants, which this raises for the whole process, and gives the
    second size of an input a graph for all sizes. A training has one network and one size.
    """
    torch._dynamo.config.cache_size_limit = 64
    return torch.compile(network, dynamic=False)


def whole_network(
    network: nn.Module,
    call: Callable[[], object],
    patch_size: tuple[int, ...],
    setting: Setting,
    optimizer: torch.optim.Optimizer | None = None,
    **others: Any,
) -> Contestant:
    """Describe a contestant whose ``call`` runs ``network``; on a slow CPU half a patch per side is its warm-up."""
    half = tuple(side // 2 for side in patch_size)
    return Contestant(
        call,
        warm_up=None
        if setting.device.type == "cuda"
        else lambda: predicting(network, random_volume(setting, half), setting)(),
        held=partial(held_bytes, network, optimizer),
        parameters=sum(x.numel() for x in network.parameters()),
        trainable=sum(x.numel() for x in network.parameters() if x.requires_grad),
        **others,
    )


def seconds_in_scans(call: Callable[[], object], device: torch.device) -> float:
    """Measure how much of ``call`` is spent in forward passes of the selective scan."""
    seconds: list[float] = []

    def clocked(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*inputs: Tensor) -> Any:
            taken, result = clock(partial(kernel, *inputs), device)
            seconds.append(taken)
            return result

        return forward

    def replaced(chosen: Implementation) -> Implementation:
        gated = None if chosen.gated is None else clocked(chosen.gated)
        return chosen._replace(forward=clocked(chosen.forward), gated=gated)

    with using(replaced):
        call()
    return sum(seconds)


class TimmEncoder(nn.Module):
    """SAM's patch embedding, position embeddings and blocks, run by timm on the slices of a volume."""

    def __init__(self, config: TPMambaConfig, device: torch.device) -> None:
        super().__init__()
        self.encoder = sam_encoder(config, device)
        self.encoder.blocks = nn.ModuleList(timm_blocks(list(self.encoder.blocks)))
        self.in_plane_upsample = float(config.in_plane_upsample)

    def forward(self, volume: Tensor) -> Tensor:
        slices = rearrange(volume.expand(-1, 3, -1, -1, -1), "B C D H W -> (B D) C H W")
        slices = F.interpolate(slices, scale_factor=self.in_plane_upsample, mode="bilinear")
        return timm_forward(list(self.encoder.blocks), self.encoder.embed(slices))


def _forward(setting: Setting, name: str, config: TPMambaConfig) -> Makers:
    volume = random_volume(setting, setting.patch_size)

    def whole(network: nn.Module, setting: Setting = setting, **others: Any) -> Contestant:
        return whole_network(network, predicting(network, volume, setting), setting.patch_size, setting, **others)

    @cache
    def ours() -> TPMamba:
        return setting.build(lambda: TPMamba(1, setting.num_classes, config))

    def ours_in(setting: Setting) -> Contestant:
        return whole(ours(), setting)

    def scans() -> Contestant:
        forward = partial(seconds_in_scans, predicting(ours(), volume, setting), setting.device)
        note = f"all {3 * config.depth} scans of a forward; the ratio is their share of it"
        return Contestant(forward, times_itself=True, against=name, warm_up=lambda: None, note=note)

    makers: dict[str, Callable[[], Contestant]] = {
        "timm's encoder": lambda: whole(TimmEncoder(config, setting.device), note="no adapters, no decoder"),
        name: partial(ours_in, setting),
        f"scans of {name}": scans,
        **{f"{name}, {other.precision}": partial(ours_in, other) for other in setting.lowered()},
    }
    if name == OURS:
        topology = plan_unet(setting.patch_size)
        makers[STOCK] = lambda: whole(
            setting.build(lambda: build_unet(1, setting.num_classes, topology, deep_supervision=False)), against=OURS
        )
    return makers
