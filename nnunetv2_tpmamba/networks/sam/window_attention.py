"""SAM's attention over windows, without computing the padding that SAM fills its windows with."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.models.vision_transformer_sam import Attention, Block, get_rel_pos
from torch import Tensor

from nnunetv2_tpmamba.networks.device import is_for_cpu
from nnunetv2_tpmamba.networks.kept_weights import KeptLinear
from nnunetv2_tpmamba.networks.recompute import recomputed

# Values of tokens that a CPU works on at a time: 16 slices of a 12 x 12 grid with SAM's 768 channels. With more, every
# tensor is fresh memory from the system, which is slower.
VALUES_AT_A_TIME = 16 * 12 * 12 * 768
# Of queries, keys and values with so many numbers nothing else is kept for the backward pass on a CPU. The demo's have
# 840,000, those of a part of SAM's slices 5 million.
MANY_VALUES = 2**20
# Attention in bfloat16 on a CPU takes a third of the time for keys whose number is a multiple of this.
KEY_MULTIPLE = 16


class SamBlock(Block):
    """timm's transformer block with the same parameters and result, which attends by :func:`window_attention`.

    Its two halves can be run one by one, for an adapter that lies between them and reads all slices.

    Source: ``Block`` of timm's ``vision_transformer_sam``, whose windows are padded with zero tokens to full size.

    Shape:
        input and output, also of the halves, ``(n, h, w, embed_dim)``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parent, name in ((self.attn, "qkv"), (self.attn, "proj"), (self.mlp, "fc1"), (self.mlp, "fc2")):
            layer = parent.get_submodule(name)
            setattr(parent, name, KeptLinear(layer.in_features, layer.out_features, layer.bias is not None))

    def forward(self, tokens: Tensor) -> Tensor:
        return _in_parts(lambda part: self.feed_forward(self.attend(part)), tokens)  # both while a part is in the cache

    def attend(self, tokens: Tensor) -> Tensor:
        """Run the first half: layer norm and attention, added to the input."""
        return _in_parts(lambda part: part + self._attention(self.norm1(part)), tokens)

    def feed_forward(self, tokens: Tensor) -> Tensor:
        """Run the second half: layer norm and MLP, added to the input."""
        return _in_parts(lambda part: part + self.mlp(self.norm2(part)), tokens)

    def _attention(self, tokens: Tensor) -> Tensor:
        if not self.window_size:
            _, h, w, _ = tokens.shape
            return window_attention(self.attn, tokens, (h, w))
        rows = [
            torch.cat([self._attend_in_windows(part) for part in _whole_and_rest(row, 2, self.window_size)], dim=2)
            for row in _whole_and_rest(tokens, 1, self.window_size)
        ]
        return torch.cat(rows, dim=1)

    def _attend_in_windows(self, tokens: Tensor) -> Tensor:
        """Attend within windows that are all whole, or all cut off in the same way by the right or the lower edge."""
        _, h, w, _ = tokens.shape
        a, b = min(h, self.window_size), min(w, self.window_size)
        windows = rearrange(tokens, "n (i a) (j b) C -> (n i j) a b C", a=a, b=b)
        windows = window_attention(self.attn, windows, (self.window_size, self.window_size))
        return rearrange(windows, "(n i j) a b C -> n (i a) (j b) C", i=h // a, j=w // b)


def _in_parts(function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Apply ``function`` to ``tokens``, on a CPU to a few slices at a time."""
    n = tokens.shape[0]
    slices = max(1, VALUES_AT_A_TIME // math.prod(tokens.shape[1:])) if is_for_cpu(tokens) else n
    if n <= slices:
        return function(tokens)
    return torch.cat([function(part) for part in tokens.split(slices)])


def window_attention(attention: Attention, tokens: Tensor, window: tuple[int, int]) -> Tensor:
    """Attend within windows of which only the first ``h x w`` tokens are real.

    SAM's padding tokens are zero, so their keys and values are all the bias of qkv, and only their position terms
    differ. Attending to all of them is attending to a single zero token whose score has, as its position term, the
    log-sum-exp of theirs, or to several zero tokens that share it in equal parts. Position terms are extra channels of
    queries and keys: a query carries its terms for all rows and columns of the window, and a key selects those of its
    own row and column by ones and zeros. So the scores, ``(n, heads, h w, h w)``, are never held, neither here nor for
    the backward pass.

    Source: Li et al., "MViTv2", 2022, section 4.1 (decomposed relative positions); ``Attention`` of timm's
    ``vision_transformer_sam``, whose result this is.

    Args:
        attention: the layer whose parameters are used.
        tokens: the real tokens of every window.
        window: rows and columns of the whole window.

    Shape:
        input and output ``(n, h, w, embed_dim)``.
    """
    attend = partial(_attend, attention, window)
    qkv = attention.qkv(tokens)
    # queries and keys with their extra channels take twice the memory of qkv, and are quickly computed from it
    return attention.proj(recomputed(attend, qkv, MANY_VALUES) if is_for_cpu(qkv) else attend(qkv))


def _attend(attention: Attention, window: tuple[int, int], qkv: Tensor) -> Tensor:
    """Attend by the queries, keys and values of all heads, ``(n, h, w, 3 * embed_dim)``, without the projection."""
    n, h, w, _ = qkv.shape
    q, k, v = rearrange(qkv, "n h w (three heads c) -> three n heads (h w) c", three=3, heads=attention.num_heads)
    num_zero_tokens = 0 if (h, w) == window else KEY_MULTIPLE - h * w % KEY_MULTIPLE
    query_terms = _query_terms(attention, q.unflatten(2, (h, w)), window, num_zero_tokens)
    if num_zero_tokens:
        _, zero_key, zero_value = attention.qkv.bias.to(k.dtype).view(3, attention.num_heads, 1, -1)
        k = torch.cat([k, zero_key.expand(n, -1, num_zero_tokens, -1)], dim=2)
        v = torch.cat([v, zero_value.expand(n, -1, num_zero_tokens, -1)], dim=2)
    key_selectors = _key_selectors(h, w, num_zero_tokens, like=k) / attention.scale

    fill = -(q.shape[-1] + key_selectors.shape[1]) % 8  # fused attention on GPUs wants a multiple of 8 channels
    query_terms = F.pad(query_terms, (0, fill)).to(q.dtype)
    key_selectors = F.pad(key_selectors, (0, fill)).expand(*k.shape[:2], -1, -1)
    attended = F.scaled_dot_product_attention(
        torch.cat([q, query_terms], dim=-1),
        torch.cat([k, key_selectors], dim=-1),
        F.pad(v, (0, key_selectors.shape[-1])),
        scale=attention.scale,
    )
    return rearrange(attended[..., : v.shape[-1]], "n heads (h w) c -> n h w (heads c)", h=h)


def _query_terms(attention: Attention, queries: Tensor, window: tuple[int, int], num_zero_tokens: int) -> Tensor:
    """The position terms of every query: one per row, one per column, and one for the zero tokens if there are any.

    Shape:
        queries ``(n, heads, h, w, c)``; result ``(n, heads, h w, h + w)``, or one more for the zero tokens.
    """
    h, w = queries.shape[2:4]
    row_embeddings = get_rel_pos(window[0], window[0], attention.rel_pos_h)[:h]
    column_embeddings = get_rel_pos(window[1], window[1], attention.rel_pos_w)[:w]
    row_terms = torch.einsum("nahwc,hkc->nahwk", queries, row_embeddings)  # a: attention head, k: row of the key
    column_terms = torch.einsum("nahwc,wkc->nahwk", queries, column_embeddings)
    terms = [row_terms[..., :h], column_terms[..., :w]]
    if num_zero_tokens:
        padding_term = _padding_term(row_terms, column_terms) - math.log(num_zero_tokens)
        terms.append(padding_term.unsqueeze(-1))
    return rearrange(torch.cat(terms, dim=-1), "n heads h w terms -> n heads (h w) terms")


def _key_selectors(h: int, w: int, num_zero_tokens: int, like: Tensor) -> Tensor:
    """Which of a query's terms belong to each key: a one for its row and a one for its column, or for the zero tokens.

    Shape:
        ``(h w, h + w)``, or with zero tokens ``(h w + num_zero_tokens, h + w + 1)``.
    """
    rows, columns = (torch.eye(size, device=like.device, dtype=like.dtype) for size in (h, w))
    selectors = torch.cat([rows.repeat_interleave(w, 0), columns.repeat(h, 1)], dim=1)
    return torch.block_diag(selectors, like.new_ones(num_zero_tokens, 1)) if num_zero_tokens else selectors


def _padding_term(row_terms: Tensor, column_terms: Tensor) -> Tensor:
    """Log-sum-exp of the position terms over all padded places of a window, ``(n, heads, h, w)``."""
    h, w = row_terms.shape[2:4]
    parts = []
    if row_terms.shape[-1] > h:  # below the real rows, in all columns
        parts.append(row_terms[..., h:].logsumexp(-1) + column_terms.logsumexp(-1))
    if column_terms.shape[-1] > w:  # beside the real rows
        parts.append(row_terms[..., :h].logsumexp(-1) + column_terms[..., w:].logsumexp(-1))
    return torch.stack(parts).logsumexp(0)


def _whole_and_rest(tokens: Tensor, dim: int, window_size: int) -> list[Tensor]:
    """Split ``tokens`` along ``dim`` into the part that fills whole windows and the part that is left at the edge."""
    size = tokens.shape[dim]
    rest = size % window_size
    return [part for part in tokens.split([size - rest, rest], dim) if part.shape[dim]]
