"""SAM's attention over windows, without computing the padding that SAM fills its windows with."""

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.models.vision_transformer_sam import Attention, Block, get_rel_pos
from torch import Tensor

TOKENS_AT_A_TIME = 2304  # on a CPU: 16 slices of a 12 x 12 grid; more are slower, as each tensor is then new memory


class SamBlock(Block):
    """timm's transformer block, parameters and result, with :func:`window_attention` inside.

    Source: ``Block`` of timm's ``vision_transformer_sam``, whose windows are padded with zero tokens to full size.

    Shape:
        input and output ``(n, h, w, embed_dim)``.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.device.type != "cpu" or torch.is_autocast_enabled("cpu"):  # which would cast all weights each time
            return self._block(tokens)
        _, h, w, _ = tokens.shape
        slices = max(1, TOKENS_AT_A_TIME // (h * w))
        return torch.cat([self._block(part) for part in tokens.split(slices)])

    def _block(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attend(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def _attend(self, tokens: Tensor) -> Tensor:
        if not self.window_size:
            _, h, w, _ = tokens.shape
            return window_attention(self.attn, tokens, (h, w))
        rows = [
            torch.cat([self._attend_in_windows(part) for part in _whole_and_rest(row, 2, self.window_size)], dim=2)
            for row in _whole_and_rest(tokens, 1, self.window_size)
        ]
        return torch.cat(rows, dim=1)

    def _attend_in_windows(self, tokens: Tensor) -> Tensor:
        """Windows of one kind: whole, or cut off by the right or lower edge."""
        _, h, w, _ = tokens.shape
        a, b = min(h, self.window_size), min(w, self.window_size)
        windows = rearrange(tokens, "n (i a) (j b) C -> (n i j) a b C", a=a, b=b)
        windows = window_attention(self.attn, windows, (self.window_size, self.window_size))
        return rearrange(windows, "(n i j) a b C -> n (i a) (j b) C", i=h // a, j=w // b)


def window_attention(attention: Attention, tokens: Tensor, window: tuple[int, int]) -> Tensor:
    """Attend within windows of which only the first ``h x w`` tokens are real.

    SAM's padding tokens are zero, so their keys and values are all the bias of qkv, and only their position terms
    differ. Attending to all of them is attending once to a single zero token whose score has, as its position term, the
    log-sum-exp of theirs. The position terms are extra channels of queries and keys: a query carries its terms for
    every row and column of the window, a key picks its own by ones and zeros. So the scores, ``(n, heads, h w, h w)``,
    are never held, neither here nor for the backward pass.

    Source: Li et al., "MViTv2", 2022, section 4.1 (decomposed relative positions); ``Attention`` of timm's
    ``vision_transformer_sam``, whose result this is.

    Args:
        attention: whose parameters to use.
        tokens: the real ones of every window.
        window: rows and columns of the whole window.

    Shape:
        input and output ``(n, h, w, embed_dim)``.
    """
    _, h, w, _ = tokens.shape
    padded = (h, w) != window
    sequence = F.pad(rearrange(tokens, "n h w C -> n (h w) C"), (0, 0, 0, int(padded)))
    q, k, v = rearrange(
        attention.qkv(sequence), "n t (three heads c) -> three n heads t c", three=3, heads=attention.num_heads
    )

    to_rows, to_columns = (
        get_rel_pos(size, size, table)[:real]
        for real, size, table in zip((h, w), window, (attention.rel_pos_h, attention.rel_pos_w), strict=True)
    )
    queries = q[:, :, : h * w].unflatten(2, (h, w))
    rows = torch.einsum("nehwc,hkc->nehwk", queries, to_rows)
    columns = torch.einsum("nehwc,wkc->nehwk", queries, to_columns)

    terms = [rows[..., :h], columns[..., :w]]
    row, column, zero_token = (torch.eye(size, device=k.device, dtype=k.dtype) for size in (h, w, 1))
    picks = torch.cat([row.repeat_interleave(w, 0), column.repeat(h, 1)], dim=1)
    if padded:
        terms.append(_padding_term(rows, columns).unsqueeze(-1))
        picks = torch.block_diag(picks, zero_token)
    query_terms = rearrange(torch.cat(terms, dim=-1), "n e h w p -> n e (h w) p")

    fill = -(q.shape[-1] + picks.shape[1]) % 8  # fused attention on GPUs wants a multiple of 8 channels
    query_terms = F.pad(query_terms, (0, fill, 0, int(padded))).to(q.dtype)
    picks = F.pad(picks / attention.scale, (0, fill)).expand(*k.shape[:2], -1, -1)
    values = F.pad(v, (0, picks.shape[-1]))
    read = F.scaled_dot_product_attention(
        torch.cat([q, query_terms], dim=-1), torch.cat([k, picks], dim=-1), values, scale=attention.scale
    )
    read = rearrange(read[:, :, : h * w, : v.shape[-1]], "n e (h w) c -> n h w (e c)", h=h)
    return attention.proj(read)


def _padding_term(rows: Tensor, columns: Tensor) -> Tensor:
    """Log-sum-exp of the position terms over all padded places of a window, ``(n, heads, h, w)``."""
    h, w = rows.shape[2:4]
    below = [rows[..., h:].logsumexp(-1) + columns.logsumexp(-1)] if rows.shape[-1] > h else []
    beside = [rows[..., :h].logsumexp(-1) + columns[..., w:].logsumexp(-1)] if columns.shape[-1] > w else []
    return torch.stack(below + beside).logsumexp(0)


def _whole_and_rest(tokens: Tensor, dim: int, window_size: int) -> list[Tensor]:
    """Along ``dim``: what fills whole windows, and what the edge leaves over."""
    size = tokens.shape[dim]
    rest = size % window_size
    return [part for part in tokens.split([size - rest, rest], dim) if part.shape[dim]]
