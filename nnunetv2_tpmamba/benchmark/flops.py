"""What the adapters of one transformer block cost: parameters, and operations as in the paper's figure 1(c).

PyTorch's flop counter counts the floating-point operations on tensors without data, a multiplication and an addition as
two; for the scan it takes :func:`.scan.scan_flops`. Norms and activations are not counted. The figure counts
multiply-adds, half as many.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_tpmamba.config import MASAM_CONFIG, TPMambaConfig
from nnunetv2_tpmamba.networks.adapters import AttentionAdapter, ConvAdapter
from nnunetv2_tpmamba.networks.lora import LoRAQKV
from nnunetv2_tpmamba.networks.tpmamba import build_adapter

from .scan import scan_flops
from .setting import Setting
from .task import Contestant, Makers, Task

PRINTED = 2 * 18.86e9  # operations of self-attention; figure 1(c) prints 18.86 G multiply-adds, two operations each
PRINTED_RATIO = 145  # section 1: "nearly 145 times greater than that of the standard LoRA"


def tasks(setting: Setting) -> list[Task]:
    """List the adapters' operations on the network's own grid, and on that of the paper's figure."""
    result = []
    for config in (setting.config, setting.grid6):
        D, (h, w) = setting.patch_size[0], setting.grid_of(config)
        title = f"adapters of one block, {D} x {h} x {w} tokens of {config.embed_dim}"
        result.append(Task("flops", title, partial(_adapters, setting, config)))
    return result


class AttentionOfTheFigure(nn.Module):
    """The self-attention whose multiply-adds are those of figure 1(c): 2 C N² + 2 C r N for N tokens.

    That is a reading of four digits, since the paper does not describe its attention: projections to r channels and
    back, the two products of an attention at full width, and no projections to queries, keys and values.

    Args:
        embed_dim: C, channels of the tokens.
        hidden_dim: r, channels between the projections.

    Shape:
        input ``(B, D, h, w, embed_dim)``, output ``(B, N, embed_dim)``.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(embed_dim, hidden_dim, bias=False)
        self.up = nn.Linear(hidden_dim, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = rearrange(tokens, "B D h w C -> B (D h w) C")
        return self.up(self.down((x @ x.mT).softmax(-1) @ x))


def counted(module: Callable[[Tensor], object], tokens: Tensor) -> int:
    """Floating-point operations of ``module``'s forward; module and tokens were made in a ``FakeTensorMode``."""
    scans = torch.ops.tpmamba.selective_scan, torch.ops.tpmamba.gated_scan
    formulas: dict[Any, Any] = {**dict.fromkeys(scans, _scan_formula), torch.ops.tpmamba.causal_conv: _conv_formula}
    # PyTorch has no formula for a CPU's fused attention, but counts the matrix products of the plain one
    plain_attention, counter = sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=formulas)
    with torch.no_grad(), plain_attention, counter:
        module(tokens)
    return counter.get_total_flops()


def _scan_formula(u: torch.Size, delta: torch.Size, A: torch.Size, *others: Any, **more: Any) -> int:
    batch, L, _ = u
    return scan_flops(batch, L, *A)


def _conv_formula(x: torch.Size, weight: torch.Size, *others: Any, **more: Any) -> int:
    return 2 * x.numel() * weight[1]


def _adapters(setting: Setting, config: TPMambaConfig) -> Makers:
    C, r, r_masam = config.embed_dim, config.adapter_dim, MASAM_CONFIG.adapter_dim
    shape = (1, setting.patch_size[0], *setting.grid_of(config), C)

    def adapter(
        build: Callable[[], nn.Module], copies: int = 1, plain: Callable[[], nn.Module] | None = None, **facts: Any
    ) -> Callable[[], Contestant]:
        def make() -> Contestant:
            with FakeTensorMode():
                tokens = torch.empty(shape)
                module = build()
                size, flops = sum(x.numel() for x in module.parameters()), counted(module, tokens)
                if plain is not None:  # the adapter replaces this layer
                    base = plain()
                    size, flops = size - sum(x.numel() for x in base.parameters()), flops - counted(base, tokens)
            return Contestant(None, flops=copies * flops, parameters=copies * size, **facts)

        return make

    lora = partial(adapter, lambda: LoRAQKV(C, config.lora_rank), plain=lambda: nn.Linear(C, 3 * C))
    makers = {
        f"LoRA, rank {config.lora_rank} on q and v": lora(),
        f"MA-SAM's convolution, {r} channels": adapter(lambda: ConvAdapter(C, r)),
        f"MA-SAM's convolutions, 2 of {r_masam} channels": adapter(lambda: ConvAdapter(C, r_masam), copies=2),
        f"self-attention over the volume, {r} channels": adapter(lambda: AttentionAdapter(C, r)),
        f"self-attention over the volume, {C} channels": adapter(lambda: AttentionAdapter(C, C)),
        f"TP-Mamba, {r} channels": adapter(lambda: build_adapter(config)),
    }
    if config == setting.grid6 and not setting.small:  # the figure's own setting
        fits = '18.86 / 145, since the paper says "nearly 145 times"; fits a rank of about 12 on q and v'
        makers[f"LoRA, rank {config.lora_rank} on q and v"] = lora(printed=PRINTED / PRINTED_RATIO, note=fits)
        counts = f"projections to {r} channels and back, and the two products at {C}; none to queries, keys and values"
        attention = adapter(lambda: AttentionOfTheFigure(C, r), printed=PRINTED, note=counts)
        makers["self-attention as figure 1(c) counts it"] = attention
    return makers
