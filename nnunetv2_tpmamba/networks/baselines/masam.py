"""MA-SAM, whose convolutions along depth stand before and inside SAM's blocks."""

from collections.abc import Callable
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from nnunetv2_tpmamba.config import TPMambaConfig

from ..adapters import ConvAdapter
from ..tpmamba import TPMamba


class MASAM(TPMamba):
    """The paper's network with MA-SAM's two adapters per block in place of the one that follows the block.

    One :class:`~nnunetv2_tpmamba.networks.adapters.ConvAdapter` comes before the block's first layer norm, one between
    its attention and its MLP. Both read the whole stack of slices, while the block reads them one by one.

    Source: Chen et al., "MA-SAM", 2023; the adapters' places and layers are those of the authors' image encoder. LoRA
    stands in place of their FacT, our decoder in place of theirs, and the adapters' last layers start at zero.

    Args:
        input_channels, num_classes, config: see :class:`~nnunetv2_tpmamba.networks.tpmamba.TPMamba`; of the adapters
            the config says only their channels, ``adapter_dim``.

    Shape:
        as :class:`~nnunetv2_tpmamba.networks.tpmamba.TPMamba`.
    """

    @classmethod
    def adapters_of_block(cls, config: TPMambaConfig) -> nn.Module:
        names = ("before_attention", "before_mlp")
        return nn.ModuleDict({name: ConvAdapter(config.embed_dim, config.adapter_dim) for name in names})

    @staticmethod
    def run_block(block: Any, adapters: Any, stack: Tensor) -> Tensor:
        stack = _slice_by_slice(block.attend, adapters["before_attention"](stack))
        return _slice_by_slice(block.feed_forward, adapters["before_mlp"](stack))


def _slice_by_slice(half: Callable[[Tensor], Tensor], stack: Tensor) -> Tensor:
    """Run one half of a block, which reads the slices of ``(B, D, h, w, C)`` one by one."""
    B = stack.shape[0]
    return rearrange(half(rearrange(stack, "B D h w C -> (B D) h w C")), "(B D) h w C -> B D h w C", B=B)
