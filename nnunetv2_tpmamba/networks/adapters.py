"""The adapters that the paper compares Tri-Plane Mamba with: each lets the slices of a stack see each other."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .linear import Linear


class ConvAdapter(nn.Module):
    """Norm and narrow the tokens, convolve them along depth, widen them, and add the result to the input.

    The widening layer starts at zero, so a fresh adapter returns its input unchanged.

    Source: Chen et al., "MA-SAM", 2023, ``adapter_*`` of its image encoder, whose widening layer starts at random.

    Args:
        embed_dim: channels of the tokens.
        hidden_dim: channels of the convolution.

    Shape:
        input and output ``(B, D, h, w, embed_dim)``.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.down = Linear(embed_dim, hidden_dim, bias=False)
        self.conv = nn.Conv3d(hidden_dim, hidden_dim, (3, 1, 1), padding=(1, 0, 0))
        self.up = _zero_linear(hidden_dim, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.conv(rearrange(self.down(self.norm(tokens)), "B D h w C -> B C D h w"))
        return tokens + self.up(F.gelu(rearrange(x, "B C D h w -> B D h w C")))


class AttentionAdapter(nn.Module):
    """Norm and narrow the tokens, let all of a volume attend to each other, widen them, and add them to the input.

    The last layer starts at zero, so a fresh adapter returns its input unchanged. PyTorch's fused attention never holds
    the scores, of which a patch of 96 x 12 x 12 tokens has 191 million.

    Source: paper section 1; figure 1(c) calls it SA. It has one head, since more would not change the operations that
    the figure counts. Norm and zeros are those of :class:`ConvAdapter`, as the paper describes neither.

    Args:
        embed_dim: channels of the tokens.
        hidden_dim: channels of the attention; as many as ``embed_dim`` leave out narrowing and widening.

    Shape:
        input and output ``(B, D, h, w, embed_dim)``.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        narrows = hidden_dim < embed_dim
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.down = Linear(embed_dim, hidden_dim, bias=False) if narrows else nn.Identity()
        self.qkv = Linear(hidden_dim, 3 * hidden_dim)
        self.proj = Linear(hidden_dim, hidden_dim) if narrows else nn.Identity()
        self.up = _zero_linear(hidden_dim, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        _, D, h, w, _ = tokens.shape
        qkv = self.qkv(self.down(self.norm(tokens)))
        # one head is an axis of its own, because without it PyTorch does not take its fused attention
        q, k, v = rearrange(qkv, "B D h w (three heads C) -> three B heads (D h w) C", three=3, heads=1)
        x = rearrange(F.scaled_dot_product_attention(q, k, v), "B 1 (D h w) C -> B D h w C", D=D, h=h, w=w)
        return tokens + self.up(self.proj(x))


def _zero_linear(input_channels: int, output_channels: int) -> Linear:
    linear = Linear(input_channels, output_channels, bias=False)
    nn.init.zeros_(linear.weight)
    return linear
