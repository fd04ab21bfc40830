"""What adapters of one transformer block cost: floating-point operations as in the paper's figure 1(c), parameters.

Counted by PyTorch's flop counter on tensors without data, a multiplication and an addition as two; the scan by
:func:`.scan.scan_flops`. Norms and activations are not counted.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_tpmamba.networks.lora import LoRAQKV
from nnunetv2_tpmamba.networks.triplane import TriPlaneMamba

from .scan import scan_flops
from .setting import Setting
from .task import Contestant, Makers, Task

MA_SAM_CHANNELS = 384  # cchen-cc/MA-SAM, adapter_channels; two adapters per block


class ConvAdapter(nn.Module):
    """Down, a convolution along depth, up. Source: Chen et al., "MA-SAM", 2023, ``adapter_*`` of its image encoder."""

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(embed_dim, hidden_dim, bias=False)
        self.conv = nn.Conv3d(hidden_dim, hidden_dim, (3, 1, 1), padding=(1, 0, 0))
        self.up = nn.Linear(hidden_dim, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.conv(rearrange(self.down(tokens), "B D h w C -> B C D h w"))
        return tokens + self.up(F.gelu(rearrange(x, "B C D h w -> B D h w C")))


class AttentionAdapter(nn.Module):
    """Down, self-attention of all tokens of the volume, up. Source: paper section 1, what figure 1(c) calls SA."""

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(embed_dim, hidden_dim, bias=False) if hidden_dim < embed_dim else nn.Identity()
        self.qkv = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.proj = nn.Linear(hidden_dim, hidden_dim)
        self.up = nn.Linear(hidden_dim, embed_dim, bias=False) if hidden_dim < embed_dim else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(self.down(tokens))
        q, k, v = rearrange(qkv, "B D h w (three C) -> three B (D h w) C", three=3)
        weights = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1)  # heads would not change the count
        return tokens + self.up(self.proj(weights @ v)).view_as(tokens)


def tasks(setting: Setting) -> list[Task]:
    D, (h, w) = setting.patch_size[0], setting.grid_of(setting.config)
    title = f"adapters of one block, {D} x {h} x {w} tokens of {setting.config.embed_dim}"
    return [Task("flops", title, partial(_adapters, setting))]


def counted(module: Callable[[Tensor], object], tokens: Tensor) -> int:
    """Floating-point operations of ``module``'s forward; both live in a ``FakeTensorMode``."""
    formulas: dict[Any, Any] = {torch.ops.tpmamba.selective_scan: _scan_formula}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        module(tokens)
    return counter.get_total_flops()


def _scan_formula(u: torch.Size, delta: torch.Size, A: torch.Size, *others: Any, **more: Any) -> int:
    batch, L, _ = u
    return scan_flops(batch, L, *A)


def _adapters(setting: Setting) -> Makers:
    config = setting.config
    C, r = config.embed_dim, config.adapter_dim
    shape = (1, setting.patch_size[0], *setting.grid_of(config), C)

    def adapter(build: Callable[[], nn.Module], copies: int = 1, plain: Callable[[], nn.Module] | None = None) -> Any:
        def make() -> Contestant:
            with FakeTensorMode():
                tokens = torch.empty(shape)
                module = build()
                size, flops = sum(x.numel() for x in module.parameters()), counted(module, tokens)
                if plain is not None:  # which the adapter replaces
                    base = plain()
                    size, flops = size - sum(x.numel() for x in base.parameters()), flops - counted(base, tokens)
            return Contestant(None, flops=copies * flops, parameters=copies * size)

        return make

    return {
        f"LoRA, rank {config.lora_rank} on q and v": adapter(
            lambda: LoRAQKV(C, config.lora_rank), plain=lambda: nn.Linear(C, 3 * C)
        ),
        f"MA-SAM's convolution, {r} channels": adapter(lambda: ConvAdapter(C, r)),
        f"MA-SAM's convolutions, 2 of {MA_SAM_CHANNELS} channels": adapter(
            lambda: ConvAdapter(C, MA_SAM_CHANNELS), copies=2
        ),
        f"self-attention over the volume, {r} channels": adapter(lambda: AttentionAdapter(C, r)),
        f"self-attention over the volume, {C} channels": adapter(lambda: AttentionAdapter(C, C)),
        f"TP-Mamba, {r} channels": adapter(
            lambda: TriPlaneMamba(C, r, config.dilations, config.d_state, config.d_conv, config.expand)
        ),
    }
