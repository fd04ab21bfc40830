"""TPMamba: figure 2 of the paper."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.checkpoint import checkpoint

from nnunetv2_tpmamba.config import TPMambaConfig

from .adapters import AttentionAdapter, ConvAdapter
from .decoder import NUM_FEATURES, Decoder
from .device import is_for_cpu
from .heap import give_back_freed_memory
from .lora import LoRAQKV
from .precision import in_cpu_precision
from .sam.encoder import build_encoder, build_input_scale
from .triplane import TriPlaneMamba

# torch.compile compiles what such a function calls, not the function itself: blocks that are alike are compiled once,
# while one graph of all of them, with thousands of operations, takes many minutes.
piece_by_piece = torch.compiler.disable(recursive=False)


class TPMamba(nn.Module):
    """Segment a volume: SAM reads its slices, LoRA and tri-plane Mamba adapters teach it the third dimension.

    With ``config.pretrained`` SAM's own weights are frozen, and LoRA, adapters, decoder (and the channel projection, if
    any) train. They are random until :meth:`load_sam` is called or a checkpoint is loaded; building reads no file.
    With the attribute ``checkpointing`` the backward pass computes each block and adapter again instead of keeping what
    they computed.

    >>> config = TPMambaConfig(embed_dim=32, depth=4, num_heads=2, global_attn_indexes=(1, 3), encoder_image_size=96)
    >>> network = TPMamba(input_channels=1, num_classes=2, config=config)
    >>> network(torch.rand(1, 1, 6, 32, 48)).shape
    torch.Size([1, 2, 6, 32, 48])

    Source: Wang et al., MICCAI 2024, section 2 and figure 2.

    Args:
        input_channels: of the volume. 1 is repeated to SAM's 3, 3 are used as they are, any other number is
            projected by a trainable 1 x 1 x 1 convolution that starts as their mean.
        num_classes: maps to predict, background included.
        config: every other size.

    Shape:
        input ``(B, input_channels, D, H, W)``, H and W multiples of ``token_size``, D any; output
        ``(B, num_classes, D, H, W)``. D is the axis of the slices.

    Raises:
        ValueError: a volume of another shape; fewer than four blocks; an unknown ``encoder_input`` or ``adapter``.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        config: TPMambaConfig = TPMambaConfig(),  # noqa: B008 - it is frozen
    ) -> None:
        super().__init__()
        if config.depth < NUM_FEATURES:
            raise ValueError(
                f"depth {config.depth}: at least {NUM_FEATURES} blocks are needed, because the decoder reads the last"
            )
        self.input_channels = input_channels
        self.in_plane_upsample = config.in_plane_upsample
        self.token_size = config.token_size
        self.checkpointing = bool(config.checkpointing)

        self.encoder = build_encoder(config).requires_grad_(not config.pretrained)
        if config.lora_rank:
            for attention in self.encoder.attentions():
                attention.qkv = LoRAQKV(config.embed_dim, config.lora_rank, frozen=config.pretrained)
        self.adapters = nn.ModuleList(self.adapters_of_block(config) for _ in range(config.depth))
        self.decoder = Decoder(
            embed_dim=config.embed_dim, num_classes=num_classes, dim=config.decoder_dim, token_size=self.token_size
        )
        self.to_rgb = None if input_channels in (1, 3) else _mean_projection(input_channels)
        self.normalize = build_input_scale(config)

    @piece_by_piece  # the decorator's function as well as this one
    @in_cpu_precision
    @piece_by_piece
    def forward(self, volume: Tensor) -> Tensor:
        return self.decode(self.features(volume, last=NUM_FEATURES))

    @piece_by_piece
    def features(self, volume: Tensor, last: int | None = None) -> list[Tensor]:
        """Return the tokens ``(B, D, h, w, embed_dim)`` after each block and its adapter, or only the ``last``."""
        self._check(volume)
        stack = self.embed(volume)
        features: list[Tensor] = []
        for block, adapter in zip(self.encoder.blocks, self.adapters, strict=True):
            stack = self._run_or_recompute(block, adapter, stack)
            features = [*features, stack] if last is None else [*features, stack][-last:]
        return features

    def embed(self, volume: Tensor) -> Tensor:
        """Return the tokens ``(B, D, h, w, embed_dim)`` that the first block reads."""
        return rearrange(self.encoder.embed(self._slices(volume)), "(B D) h w C -> B D h w C", B=volume.shape[0])

    def _run_or_recompute(self, block: nn.Module, adapter: nn.Module, stack: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self._run_block_in_little_memory, block, adapter, stack, use_reentrant=False)
        return self.run_block(block, adapter, stack)

    def _run_block_in_little_memory(self, block: nn.Module, adapter: nn.Module, stack: Tensor) -> Tensor:
        if is_for_cpu(stack) and not torch.compiler.is_compiling() and not isinstance(stack, FakeTensor):
            give_back_freed_memory()
        return self.run_block(block, adapter, stack)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Turn the tokens after the last blocks into one map per class."""
        return self.decoder([rearrange(f, "B D h w C -> B C D h w") for f in features])

    @classmethod
    def adapters_of_block(cls, config: TPMambaConfig) -> nn.Module:
        """Build what :meth:`run_block` is given beside a block; with another method, a subclass builds another."""
        return build_adapter(config)

    @staticmethod
    def run_block(block: nn.Module, adapter: nn.Module, stack: Tensor) -> Tensor:
        """Run one box of figure 2: the block reads the slices one by one, its adapter the stack ``(B, D, h, w, C)``."""
        B = stack.shape[0]
        slices = block(rearrange(stack, "B D h w C -> (B D) h w C"))
        return adapter(rearrange(slices, "(B D) h w C -> B D h w C", B=B))

    def load_sam(self, state_dict: dict[str, Tensor]) -> None:
        """Put SAM's weights, as :func:`.sam.weights.read_sam_checkpoint` gives them, into the encoder; LoRA stays.

        Raises:
            RuntimeError: keys or shapes that are not this encoder's.
        """
        lora = {name: x for name, x in self.encoder.state_dict().items() if ".lora_" in name}
        self.encoder.load_state_dict({**state_dict, **lora})

    def sam_weights(self) -> dict[str, Tensor]:
        """The encoder's weights without LoRA, under the names that :meth:`load_sam` takes."""
        return {name: x for name, x in self.encoder.state_dict().items() if ".lora_" not in name}

    def _slices(self, volume: Tensor) -> Tensor:
        rgb = volume.expand(-1, 3, -1, -1, -1) if self.to_rgb is None else self.to_rgb(volume)
        slices = self.normalize(rearrange(rgb, "B C D H W -> (B D) C H W"))
        if self.in_plane_upsample == 1:
            return slices
        return F.interpolate(slices, scale_factor=self.in_plane_upsample, mode="bilinear")

    def _check(self, volume: Tensor) -> None:
        if volume.ndim != 5 or volume.shape[1] != self.input_channels:
            raise ValueError(
                f"input of shape {tuple(volume.shape)}: (B, {self.input_channels}, D, H, W) is needed, "
                f"this network was built for {self.input_channels} channel(s)"
            )
        check_patch_size(tuple(volume.shape[2:]), self.token_size)


def build_adapter(config: TPMambaConfig) -> nn.Module:
    """Build the adapter that follows one block, in the sizes of ``config``; without one, a module that does nothing.

    Raises:
        ValueError: ``config.adapter`` is none of the four.
    """
    match config.adapter:
        case "tri-plane":
            return TriPlaneMamba(
                embed_dim=config.embed_dim,
                hidden_dim=config.adapter_dim,
                conv_kernel=config.conv_kernel,
                dilations=config.dilations,
                planes=config.planes,
                bidirectional=config.bidirectional,
                d_state=config.d_state,
                d_conv=config.d_conv,
                expand=config.expand,
            )
        case "convolution":
            return ConvAdapter(config.embed_dim, config.adapter_dim)
        case "attention":
            return AttentionAdapter(config.embed_dim, config.adapter_dim)
        case "none":
            return nn.Identity()
    raise ValueError(f"adapter {config.adapter!r}: it must be 'tri-plane', 'convolution', 'attention' or 'none'")


def check_patch_size(patch_size: tuple[int, ...], token_size: int) -> None:
    """Raise ``ValueError`` for a patch ``(D, H, W)`` in voxels that tokens of ``token_size`` voxels do not fill."""
    D, *in_plane = patch_size
    if D < 1 or any(size < token_size or size % token_size for size in in_plane):
        good = (max(D, 1), *(max(round(size / token_size), 1) * token_size for size in in_plane))
        raise ValueError(
            f"patch size {patch_size}: H and W must be multiples of {token_size}; set patch_size to e.g. {good}"
        )


def _mean_projection(input_channels: int) -> nn.Conv3d:
    projection = nn.Conv3d(input_channels, 3, 1, bias=False)
    nn.init.constant_(projection.weight, 1 / input_channels)
    return projection
