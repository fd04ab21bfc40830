"""SAM's image encoder without its neck, to be run block by block."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import Attention, VisionTransformerSAM
from torch import Tensor, nn

from nnunetv2_tpmamba.config import TPMambaConfig

from .window_attention import SamBlock


class SamEncoder(nn.Module):
    """Turn images into tokens and the tokens into features, one after each transformer block.

    Its modules are timm's and have timm's names, so a state dict of ``samvit_base_patch16`` without neck loads here.
    The blocks are of the subclass :class:`~nnunetv2_tpmamba.networks.sam.window_attention.SamBlock`, and position
    embeddings are resampled to the grid of the images as timm does. Weights start random; :mod:`.weights` reads SAM's.

    Source: Kirillov et al., "Segment Anything", ICCV 2023; ``ImageEncoderViT`` of segment_anything. Layer norm's
    epsilon is segment_anything's 1e-6, where timm has 1e-5.

    Args:
        embed_dim: channels of the tokens.
        depth: transformer blocks.
        num_heads: attention heads of each block.
        window_size: tokens on a side of the attention windows; 0 = every block attends to the whole image.
        global_attn_indexes: blocks that attend to the whole image.
        image_size: pixels on a side of the images that the position embeddings are made for.
        patch_size: pixels on a side of a token.

    Shape:
        input ``(n, 3, H, W)``, H and W multiples of ``patch_size``; output a list of ``depth`` tensors
        ``(n, h, w, embed_dim)``, ``h = H / patch_size``.
    """

    def __init__(
        self,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        window_size: int = 14,
        global_attn_indexes: Sequence[int] = (2, 5, 8, 11),
        image_size: int = 1024,
        patch_size: int = 16,
    ) -> None:
        super().__init__()
        vit = VisionTransformerSAM(
            img_size=image_size,
            patch_size=patch_size,
            num_classes=0,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=window_size,
            global_attn_indexes=tuple(global_attn_indexes),
            neck_chans=0,
            block_fn=SamBlock,
        )
        self.patch_embed = vit.patch_embed
        self.pos_embed = vit.pos_embed
        self.blocks = nn.ModuleList(vit.blocks)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def attentions(self) -> Iterator[Attention]:
        """Iterate over the attention layers of the blocks."""
        return (block.get_submodule("attn") for block in self.blocks)

    def embed(self, images: Tensor) -> Tensor:
        """Turn images ``(n, 3, H, W)`` into tokens ``(n, h, w, embed_dim)`` that know their positions."""
        tokens = self.patch_embed(images)
        return tokens + resample_abs_pos_embed_nhwc(self.pos_embed, tokens.shape[1:3])

    def forward(self, images: Tensor) -> list[Tensor]:
        tokens = self.embed(images)
        features = []
        for block in self.blocks:
            tokens = block(tokens)
            features.append(tokens)
        return features


def build_encoder(config: TPMambaConfig) -> SamEncoder:
    """Build SAM's encoder in the sizes of ``config``, with random weights and without LoRA."""
    return SamEncoder(
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        window_size=config.window_size,
        global_attn_indexes=config.global_attn_indexes,
        image_size=config.encoder_image_size,
        patch_size=config.encoder_patch_size,
    )


class SamNormalize(nn.Module):
    """Scale images of [0, 1] as SAM's were in its training, ``(n, 3, H, W)`` to the same.

    Source: ``pixel_mean`` and ``pixel_std`` of segment_anything, which are ImageNet's times 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)  # not in checkpoints

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def build_input_scale(config: TPMambaConfig) -> nn.Module:
    """Build what scales the values of slices for the encoder.

    Raises:
        ValueError: ``config.encoder_input`` is none of the two.
    """
    match config.encoder_input:
        case "unit":
            return nn.Identity()
        case "imagenet":
            return SamNormalize()
    raise ValueError(f"encoder_input {config.encoder_input!r}: it must be 'unit' or 'imagenet'")
