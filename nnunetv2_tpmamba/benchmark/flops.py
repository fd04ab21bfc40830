"""What the adapters of one transformer block cost: parameters, and operations as in the paper's figure 1(c).

PyTorch's flop counter counts the floating-point operations on tensors without data, a multiplication and an addition as
two; for the scan it takes :func:`.scan.scan_flops`. Norms and activations are not counted.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_tpmamba.networks.adapters import AttentionAdapter, ConvAdapter
from nnunetv2_tpmamba.networks.lora import LoRAQKV
from nnunetv2_tpmamba.networks.tpmamba import build_adapter

from .scan import scan_flops
from .setting import Setting
from .task import Contestant, Makers, Task

MA_SAM_CHANNELS = 384  # adapter_channels of cchen-cc/MA-SAM, which has two adapters per block


def tasks(setting: Setting) -> list[Task]:
    D, (h, w) = setting.patch_size[0], setting.grid_of(setting.config)
    title = f"adapters of one block, {D} x {h} x {w} tokens of {setting.config.embed_dim}"
    return [Task("flops", title, partial(_adapters, setting))]


def counted(module: Callable[[Tensor], object], tokens: Tensor) -> int:
    """Floating-point operations of ``module``'s forward; module and tokens were made in a ``FakeTensorMode``."""
    formulas: dict[Any, Any] = {torch.ops.tpmamba.selective_scan: _scan_formula}
    # PyTorch has no formula for a CPU's fused attention, but counts the matrix products of the plain one
    plain_attention, counter = sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=formulas)
    with torch.no_grad(), plain_attention, counter:
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
                if plain is not None:  # the adapter replaces this layer
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
        f"TP-Mamba, {r} channels": adapter(lambda: build_adapter(config)),
    }
