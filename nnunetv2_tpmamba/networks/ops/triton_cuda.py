"""The selective scan on NVIDIA GPUs, compiled by Triton, which comes with PyTorch on Linux.

Signatures, and the formulas of the backward pass, are those of :mod:`.loop`. The arguments may be of any floating dtype
up to float32, and everything is computed in float32. A program is one warp and works on tiles ``(T, N, E)`` of
``T = CHUNK`` steps, all states and a few channels. Time is inside a thread, so the recurrence needs no communication,
sums over states take a few shuffles, and sums over channels are made once per chunk. Every number in global memory has
one writer at a time: no atomics, the same result in every run.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .chunks import CHUNK, new_states

MAX_D_STATE = 64
"""Also states times channels of a tile, two for each of the warp's threads. With four, or with longer chunks,
``_products`` needs more registers than a thread has."""
LOG2_E = tl.constexpr(1.4426950408889634)  # exp2 is one instruction, exp is two


def scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`.loop.scan_forward`; tensors are on CUDA, with at most ``MAX_D_STATE`` states."""
    u, delta, A, B, C, D = (x.contiguous() for x in (u, delta, A, B, C, D))
    y, states = u.new_empty(u.shape), new_states(u, A).float()
    _launch(_forward, u.shape, A, u, delta, A, B, C, D, y, states)
    return y, states


def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of ``u, delta, A, B, C, D``: first backward in time, then for all chunks at once."""
    grad_y, u, delta, A, B, C, D, states = (x.contiguous() for x in (grad_y, u, delta, A, B, C, D, states))
    grad_u, grad_delta, grad_B, grad_C = (x.new_empty(x.shape, dtype=torch.float32) for x in (u, delta, B, C))
    grad_D = D.new_zeros(len(u), *D.shape, dtype=torch.float32)  # one for each sequence, added up at the end
    grad_A = states.new_empty(states.shape)  # before it holds a chunk's gradient: what later steps pass back
    _launch(_reverse, u.shape, A, grad_y, u, delta, A, B, C, D, grad_A, grad_u, grad_delta, grad_D)
    _launch(_products, u.shape, A, grad_y, u, delta, A, B, C, states, grad_A, grad_delta, grad_B, grad_C)
    gradients = (grad_u, grad_delta, grad_A.sum((0, 1)), grad_B, grad_C, grad_D.sum(0))
    gu, gdelta, gA, gB, gC, gD = (g.to(x.dtype) for g, x in zip(gradients, (u, delta, A, B, C, D), strict=True))
    return gu, gdelta, gA, gB, gC, gD


def _launch(kernel: Any, shape: torch.Size, A: Tensor, *tensors: Tensor) -> None:
    """Launch a kernel: one program per chunk for ``_products``, else one per sequence and block of channels."""
    batch, L, E = shape
    N = A.shape[1]
    if N > MAX_D_STATE:
        raise ValueError(f"A has {N} states; the Triton kernels hold at most {MAX_D_STATE}")
    block_N = triton.next_power_of_2(max(N, 1))
    block_E = MAX_D_STATE // block_N
    programs = batch * triton.cdiv(*(L, CHUNK) if kernel is _products else (E, block_E))
    sizes = (L, E, N, CHUNK, block_E, block_N)
    if programs and L:
        with torch.cuda.device_of(A):
            kernel[(programs,)](*tensors, *sizes, num_warps=1, enable_fp_fusion=True)


@triton.jit
def _load(pointer, rows, columns, num_rows, num_columns):
    """Load a float32 tile of a matrix, with zeros outside of the matrix: a step of 0 leaves the state as it is."""
    inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
    return tl.load(pointer + (rows[:, None] * num_columns + columns[None, :]), inside, 0.0).to(tl.float32)


@triton.jit
def _store(pointer, rows, columns, num_rows, num_columns, tile):
    inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
    tl.store(pointer + (rows[:, None] * num_columns + columns[None, :]), tile, inside)


@triton.jit
def _then(a1, decayed1, drive1, a2, decayed2, drive2):
    """Join two stretches of steps, each taking the state ``x`` to ``a x + decayed``, plus the last step's drive."""
    return a1 * a2, a2 * (decayed1 + drive1) + decayed2, drive2


@triton.jit
def _before(a1, kept1, grad1, a2, kept2, grad2):
    """Join two stretches backward in time, each taking what later steps pass back, ``p``, to ``a (kept p + grad)``."""
    return a2, kept2 * a1 * kept1, kept2 * a1 * grad1 + grad2


@triton.jit(do_not_specialize=["L"])
def _forward(
    u, delta, A, B, C, D, y, states,
    L, E, N: tl.constexpr, T: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(E, BLOCK_E)
    sequence = (tl.program_id(0) // blocks).to(tl.int64)
    e = tl.program_id(0) % blocks * BLOCK_E + tl.arange(0, BLOCK_E)
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, T)
    rates = tl.trans(_load(A, e, n, E, N)) * LOG2_E
    skip = tl.load(D + e, e < E, 0.0).to(tl.float32)
    x = tl.zeros([BLOCK_N, BLOCK_E], tl.float32)
    for start in tl.range(0, L, T, num_stages=2):  # from sm_80 on, loads the next tile meanwhile
        row = sequence * L + start
        _store(states + (sequence * tl.cdiv(L, T) + start // T) * E * N, e, n, E, N, tl.trans(x))
        step = _load(delta + row * E, t, e, L - start, E)
        inputs = _load(u + row * E, t, e, L - start, E)
        enters = _load(B + row * N, t, n, L - start, N)
        read = _load(C + row * N, t, n, L - start, N)
        a = tl.exp2(step[:, None, :] * rates[None])
        drive = (step * inputs)[:, None, :] * enters[:, :, None]
        decayed = tl.where(t[:, None, None] == 0, a * x[None], 0.0)
        _, decayed, _ = tl.associative_scan((a, decayed, drive), 0, _then)
        x_t = decayed + drive
        x = tl.sum(tl.where(t[:, None, None] == T - 1, x_t, 0.0), 0)
        _store(y + row * E, t, e, L - start, E, tl.sum(x_t * read[:, :, None], 1) + skip[None] * inputs)


@triton.jit(do_not_specialize=["L"])
def _reverse(
    grad_y, u, delta, A, B, C, D,
    from_later, grad_u, grad_delta, grad_D,
    L, E, N: tl.constexpr, T: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Go backward in time as ``_forward`` goes forward; ``grad_delta`` gets only the part through the drive."""
    blocks = tl.cdiv(E, BLOCK_E)
    sequence = (tl.program_id(0) // blocks).to(tl.int64)
    e = tl.program_id(0) % blocks * BLOCK_E + tl.arange(0, BLOCK_E)
    n = tl.arange(0, BLOCK_N)
    t = T - 1 - tl.arange(0, T)
    rates = tl.trans(_load(A, e, n, E, N)) * LOG2_E
    skip = tl.load(D + e, e < E, 0.0).to(tl.float32)
    p = tl.zeros([BLOCK_N, BLOCK_E], tl.float32)
    sum_D = tl.zeros([T, BLOCK_E], tl.float32)
    chunks = tl.cdiv(L, T)
    for i in tl.range(0, chunks, num_stages=2):
        start = (chunks - 1 - i) * T
        row = sequence * L + start
        _store(from_later + (sequence * chunks + start // T) * E * N, e, n, E, N, tl.trans(p))
        step = _load(delta + row * E, t, e, L - start, E)
        inputs = _load(u + row * E, t, e, L - start, E)
        gy = _load(grad_y + row * E, t, e, L - start, E)
        enters = _load(B + row * N, t, n, L - start, N)
        read = _load(C + row * N, t, n, L - start, N)
        a = tl.exp2(step[:, None, :] * rates[None])
        gx = gy[:, None, :] * read[:, :, None] + tl.where(t[:, None, None] == T - 1, p[None], 0.0)
        _, _, gx = tl.associative_scan((a, tl.full(a.shape, 1.0, tl.float32), gx), 0, _before)
        p = tl.sum(tl.where(t[:, None, None] == 0, a * gx, 0.0), 0)
        grad_drive = tl.sum(gx * enters[:, :, None], 1)
        _store(grad_u + row * E, t, e, L - start, E, grad_drive * step + gy * skip[None])
        _store(grad_delta + row * E, t, e, L - start, E, grad_drive * inputs)
        sum_D += gy * inputs
    tl.store(grad_D + sequence * E + e, tl.sum(sum_D, 0), e < E)


@triton.jit(do_not_specialize=["L"])
def _products(
    grad_y, u, delta, A, B, C, states, from_later,
    grad_delta, grad_B, grad_C,
    L, E, N: tl.constexpr, T: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Compute the gradients that need the state and its gradient together, of one chunk and all its channels."""
    chunks = tl.cdiv(L, T)
    chunk = tl.program_id(0).to(tl.int64)
    start = tl.program_id(0) % chunks * T
    row = chunk // chunks * L + start
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, T)
    enters = _load(B + row * N, t, n, L - start, N)
    read = _load(C + row * N, t, n, L - start, N)
    sum_B = tl.zeros([T, BLOCK_N, BLOCK_E], tl.float32)
    sum_C = tl.zeros([T, BLOCK_N, BLOCK_E], tl.float32)
    for first in tl.range(0, E, BLOCK_E):
        e = first + tl.arange(0, BLOCK_E)
        rates = tl.trans(_load(A, e, n, E, N))
        x = tl.trans(_load(states + chunk * E * N, e, n, E, N))
        p = tl.trans(_load(from_later + chunk * E * N, e, n, E, N))
        step = _load(delta + row * E, t, e, L - start, E)
        inputs = _load(u + row * E, t, e, L - start, E)
        gy = _load(grad_y + row * E, t, e, L - start, E)
        through_drive = _load(grad_delta + row * E, t, e, L - start, E)
        a = tl.exp2(step[:, None, :] * (rates * LOG2_E)[None])
        gx = gy[:, None, :] * read[:, :, None] + tl.where(t[:, None, None] == T - 1, p[None], 0.0)
        # a flip inside a thread is free, a scan with reverse=True is not
        reverse = (tl.flip(a, 0), tl.full(a.shape, 1.0, tl.float32), tl.flip(gx, 0))
        _, _, gx = tl.associative_scan(reverse, 0, _before)
        gx = tl.flip(gx, 0)
        drive = (step * inputs)[:, None, :] * enters[:, :, None]
        decayed = tl.where(t[:, None, None] == 0, a * x[None], 0.0)
        _, decayed, _ = tl.associative_scan((a, decayed, drive), 0, _then)
        sum_B += gx * (step * inputs)[:, None, :]
        sum_C += gy[:, None, :] * (decayed + drive)
        grad_exponent = gx * decayed  # of delta A
        _store(grad_delta + row * E, t, e, L - start, E, through_drive + tl.sum(grad_exponent * rates[None], 1))
        grad_A = tl.sum(grad_exponent * step[:, None, :], 0)
        _store(from_later + chunk * E * N, e, n, E, N, tl.trans(grad_A))
    _store(grad_B + row * N, t, n, L - start, N, tl.sum(sum_B, 2))
    _store(grad_C + row * N, t, n, L - start, N, tl.sum(sum_C, 2))
