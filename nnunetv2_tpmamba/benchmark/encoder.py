"""SAM's transformer blocks: timm's forward pass beside ours, on the same weights and tokens."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from timm.models.vision_transformer_sam import Block
from torch import Tensor, nn

from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.networks.sam.encoder import SamEncoder, build_encoder

from .setting import Setting
from .task import Contestant, Makers, Task

BLOCKS = 3  # one of SAM's first three blocks attends to the whole slice, as four of all twelve do


def tasks(setting: Setting) -> list[Task]:
    result = [Task("encoder", f"one matrix product, {setting.precision}", partial(_matrix_product, setting))]
    for config in (setting.config, setting.grid6):
        h, w = setting.grid_of(config)
        for train in (False, True):
            title = f"{BLOCKS} blocks, {h} x {w} grid, {'forward + backward' if train else 'forward'}"
            result.append(Task("encoder", title, partial(_blocks, setting, config, train)))
    return result


def sam_encoder(config: TPMambaConfig, device: torch.device) -> SamEncoder:
    """Build a frozen encoder with random weights and, as after training, position terms that are not zero."""
    with device:  # a CPU takes seconds to draw the weights
        encoder = build_encoder(config)
    for attention in encoder.attentions():
        for table in (attention.rel_pos_h, attention.rel_pos_w):
            nn.init.trunc_normal_(table, std=0.02)
    return encoder.requires_grad_(False).to(device)


def timm_blocks(blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """Copy blocks with PyTorch's linear layers, as timm has them; the copies share the weights."""
    copies = copy.deepcopy(list(blocks), memo={id(x): x for block in blocks for x in block.parameters()})
    for parent in [module for block in copies for module in block.modules()]:
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear):
                plain = nn.Linear(layer.in_features, layer.out_features, device="meta")
                plain.weight, plain.bias = layer.weight, layer.bias
                setattr(parent, name, plain)
    return copies


def timm_forward(blocks: Sequence[nn.Module], tokens: Tensor) -> Tensor:
    """Run :func:`timm_blocks`, which are of a subclass of timm's, by timm's own forward pass."""
    for block in blocks:
        tokens = Block.forward(block, tokens)
    return tokens


def our_forward(blocks: Sequence[nn.Module], tokens: Tensor) -> Tensor:
    for block in blocks:
        tokens = block(tokens)
    return tokens


def block_flops(setting: Setting, config: TPMambaConfig) -> int:
    """Count the operations of one block on the tokens of a patch's slices: projections, MLP and attention in windows.

    Position terms and padding are not counted, because timm computes the padding and we do not.
    """
    h, w = setting.grid_of(config)
    tokens, C = setting.patch_size[0] * h * w, config.embed_dim
    return 24 * tokens * C**2 + 4 * tokens * (h * w) * C


def _blocks(setting: Setting, config: TPMambaConfig, train: bool) -> Makers:
    blocks = list(sam_encoder(replace(config, depth=BLOCKS), setting.device).blocks)
    shape = (setting.patch_size[0], *setting.grid_of(config), config.embed_dim)
    tokens, cotangent = (torch.randn(shape, device=setting.device) for _ in range(2))

    def once(forward: Callable[[Tensor], Tensor]) -> None:
        with torch.set_grad_enabled(train), setting.autocast():
            result = forward(tokens.detach().requires_grad_(train))
        if train:
            result.backward(cotangent.to(result.dtype))

    flops = BLOCKS * block_flops(setting, config) * (2 if train else 1)  # frozen weights get no gradient
    forwards = {"timm": partial(timm_forward, timm_blocks(blocks)), "ours": partial(our_forward, blocks)}
    return {
        name: lambda forward=forward: Contestant(partial(once, forward), flops=flops)  # type: ignore[misc]
        for name, forward in forwards.items()
    }


def _matrix_product(setting: Setting) -> Makers:
    n = setting.matrix
    a, b = (torch.randn(n, n, device=setting.device) for _ in range(2))
    if setting.device.type == "cuda":
        a, b = a.half(), b.half()
    note = f"{n} x {n}; the device's rate, of which the lines below reach a share"
    return {"matrix product": lambda: Contestant(lambda: a @ b, flops=2 * n**3, note=note)}
