"""The adapters that the paper compares Tri-Plane Mamba with: each lets the slices of a stack see each other."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class ConvAdapter(nn.Module):
    """Narrow the tokens, convolve them along depth, widen them, and add the result to the input.

    Source: Chen et al., "MA-SAM", 2023, ``adapter_*`` of its image encoder, without their layer norm. The layers
    start at PyTorch's random weights, so a fresh adapter changes its input.

    Args:
        embed_dim: channels of the tokens.
        hidden_dim: channels of the convolution.

    Shape:
        input and output ``(B, D, h, w, embed_dim)``.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(embed_dim, hidden_dim, bias=False)
        self.conv = nn.Conv3d(hidden_dim, hidden_dim, (3, 1, 1), padding=(1, 0, 0))
        self.up = nn.Linear(hidden_dim, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.conv(rearrange(self.down(tokens), "B D h w C -> B C D h w"))
        return tokens + self.up(F.gelu(rearrange(x, "B C D h w -> B D h w C")))


class AttentionAdapter(nn.Module):
    """Narrow the tokens, let all of a volume attend to each other, widen them, and add the result to the input.

    Source: paper section 1; figure 1(c) calls it SA. It has one head, since more would not change the operations that
    the figure counts. The layers start at PyTorch's random weights, so a fresh adapter changes its input.

    Args:
        embed_dim: channels of the tokens.
        hidden_dim: channels of the attention; as many as ``embed_dim`` leave out narrowing and widening.

    Shape:
        input and output ``(B, D, h, w, embed_dim)``.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(embed_dim, hidden_dim, bias=False) if hidden_dim < embed_dim else nn.Identity()
        self.qkv = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.proj = nn.Linear(hidden_dim, hidden_dim)
        self.up = nn.Linear(hidden_dim, embed_dim, bias=False) if hidden_dim < embed_dim else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(self.down(tokens))
        q, k, v = rearrange(qkv, "B D h w (three C) -> three B (D h w) C", three=3)
        weights = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1)
        return tokens + self.up(self.proj(weights @ v)).view_as(tokens)
