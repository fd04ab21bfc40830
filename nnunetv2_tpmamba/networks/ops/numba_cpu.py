"""The selective scan on the CPU, compiled by numba: one pass over the inputs, sequences in parallel, states in cache.

Signatures, and the formulas of the backward pass, are those of :mod:`.loop`; all is float32. Numba compiles each kernel
at its first call, which takes some seconds, and keeps it on disk where it can write.
"""

import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numba import float32
from torch import Tensor

from .chunks import CHUNK, new_states

FAST = {
    "fastmath": {"contract", "reassoc", "nsz"},  # so that sums vectorise; NaN and infinity keep their meaning
    "error_model": "numpy",  # so that divisions vectorise: dividing by zero is no error
}
ONE_AT_A_TIME = threading.Lock()  # numba's own thread pool aborts the process when two threads call it at once


def scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`.loop.scan_forward`; tensors are float32 on the CPU."""
    y, states = u.new_empty(u.shape), new_states(u, A)
    run(_forward, CHUNK, u, delta, A, B, C, D, y, states)
    return y, states


def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of ``u, delta, A, B, C, D`` from the gradient of ``y`` and the states of the forward."""
    batch = len(u)
    grad_u, grad_delta, grad_B, grad_C = (x.new_empty(x.shape) for x in (u, delta, B, C))
    # one for each sequence, added up at the end
    grad_A, grad_D = A.new_zeros(batch, *A.shape), D.new_zeros(batch, *D.shape)
    gradients = (grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D)
    run(_backward, CHUNK, grad_y, u, delta, A, B, C, D, states, *gradients)
    return grad_u, grad_delta, grad_A.sum(0), grad_B, grad_C, grad_D.sum(0)


def gated_forward(u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, gate: Tensor) -> Tensor:
    """Compute :func:`.gated.gated_scan` in one pass; tensors are float32 on the CPU."""
    y = u.new_empty(u.shape)
    run(_gated_forward, u, step, A, B, C, D, gate, y)
    return y


def run(kernel: Any, *arguments: Tensor | int) -> None:
    """Call a kernel that was :func:`compiled`, with as many threads as PyTorch has; it writes into the last tensors."""
    arrays = [x.detach().contiguous().numpy() if isinstance(x, Tensor) else x for x in arguments]
    threads = torch.get_num_threads()
    with ONE_AT_A_TIME:
        numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
        try:
            kernel(*arrays)
        except OSError:  # the compiled kernel could not be written to disk, but is there now
            kernel(*arrays)
    if torch.get_num_threads() != threads:  # numba's first call gives PyTorch as many threads as the machine has
        torch.set_num_threads(threads)


def compiled(function: Callable[..., None]) -> Any:
    """Compile at the first call, and keep the result on disk unless there is no folder for it.

    Numba keeps it in ``NUMBA_CACHE_DIR``, in ``__pycache__`` beside this file, or in the home folder. Of a read-only
    installation and a user without a home, every process compiles anew.
    """
    try:
        return numba.njit(parallel=True, cache=True, **FAST)(function)
    except RuntimeError:  # numba: "no locator available"
        return numba.njit(parallel=True, **FAST)(function)


@numba.njit(**FAST)
def _exp(x: Any) -> Any:
    """Compute e^x within 2 units in the last place by arithmetic that vectorises, unlike a call of the C library."""
    x = float32(-87.0) if x < float32(-87.0) else x
    x = float32(89.0) if x > float32(89.0) else x
    i = np.floor(x * float32(1.4426950408889634) + float32(0.5))
    f = x - i * float32(0.693359375) + i * float32(2.12194440e-4)  # ln 2 in two parts
    p = float32(1 / 720)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        p = p * f + float32(coefficient)
    return p * np.int32((np.int32(i) + 127) << 23).view(np.float32)


@numba.njit(**FAST)
def _softplus(x: Any) -> Any:
    """Compute log(1 + e^x) = max(x, 0) + 2 artanh(z / (2 + z)) with z = e^-|x|, by a series that vectorises."""
    z = _exp(-abs(x))
    s = z / (float32(2) + z)  # at most 1/3, where the next term of the series is below 1e-8
    p = float32(1 / 13)
    for coefficient in (1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0):
        p = p * (s * s) + float32(coefficient)
    return max(x, float32(0)) + float32(2) * s * p


@numba.njit(**FAST)
def _silu(x: Any) -> Any:
    return x / (float32(1) + _exp(-x))


@compiled
def _forward(
    chunk: Any, u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, y: Any, states: Any
) -> None:  # fmt: skip
    batch, L, E = u.shape
    N = A.shape[1]
    rates = A.T.copy()
    for b in numba.prange(batch):
        x = np.zeros((N, E), np.float32)
        drive = np.empty(E, np.float32)
        total = np.empty(E, np.float32)
        for t in range(L):
            if t % chunk == 0:
                states[b, t // chunk] = x.T
            for e in range(E):
                drive[e] = delta[b, t, e] * u[b, t, e]
                total[e] = D[e] * u[b, t, e]
            for n in range(N):
                for e in range(E):
                    state = _exp(delta[b, t, e] * rates[n, e]) * x[n, e] + drive[e] * B[b, t, n]
                    x[n, e] = state
                    total[e] += state * C[b, t, n]
            for e in range(E):
                y[b, t, e] = total[e]


@compiled
def _gated_forward(u: Any, step: Any, A: Any, B: Any, C: Any, D: Any, gate: Any, y: Any) -> None:
    batch, L, E = u.shape
    N = A.shape[1]
    rates = A.T.copy()
    for b in numba.prange(batch):
        x = np.zeros((N, E), np.float32)
        delta = np.empty(E, np.float32)
        drive = np.empty(E, np.float32)
        total = np.empty(E, np.float32)
        for t in range(L):
            for e in range(E):
                delta[e] = _softplus(step[b, t, e])
                drive[e] = delta[e] * u[b, t, e]
                total[e] = D[e] * u[b, t, e]
            for n in range(N):
                for e in range(E):
                    state = _exp(delta[e] * rates[n, e]) * x[n, e] + drive[e] * B[b, t, n]
                    x[n, e] = state
                    total[e] += state * C[b, t, n]
            for e in range(E):
                y[b, t, e] = total[e] * _silu(gate[b, t, e])


@compiled
def _backward(
    chunk: Any, grad_y: Any, u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, before: Any,
    grad_u: Any, grad_delta: Any, grad_A: Any, grad_B: Any, grad_C: Any, grad_D: Any,
) -> None:  # fmt: skip
    batch, L, E = u.shape
    N = A.shape[1]
    rates = A.T.copy()
    for b in numba.prange(batch):
        from_later = np.zeros((N, E), np.float32)  # the part of the state's gradient that later steps pass back
        grad_rates = np.zeros((N, E), np.float32)
        states = np.empty((chunk + 1, N, E), np.float32)
        drive = np.empty(E, np.float32)
        grad_drive = np.empty(E, np.float32)
        grad_step = np.empty(E, np.float32)
        for c in range(before.shape[1] - 1, -1, -1):
            start, stop = c * chunk, min((c + 1) * chunk, L)
            states[0] = before[b, c].T
            for t in range(start, stop):
                k = t - start
                for n in range(N):
                    for e in range(E):
                        step = delta[b, t, e]
                        state = _exp(step * rates[n, e]) * states[k, n, e] + step * u[b, t, e] * B[b, t, n]
                        states[k + 1, n, e] = state
            for t in range(stop - 1, start - 1, -1):
                k = t - start
                for e in range(E):
                    drive[e] = delta[b, t, e] * u[b, t, e]
                    grad_drive[e] = 0
                    grad_step[e] = 0
                for n in range(N):
                    to_B = float32(0)
                    to_C = float32(0)
                    for e in range(E):
                        step = delta[b, t, e]
                        gy = grad_y[b, t, e]
                        gx = from_later[n, e] + gy * C[b, t, n]
                        to_C += gy * states[k + 1, n, e]
                        to_B += gx * drive[e]
                        grad_drive[e] += gx * B[b, t, n]
                        passed_back = gx * _exp(step * rates[n, e])
                        from_later[n, e] = passed_back
                        grad_exponent = passed_back * states[k, n, e]  # of step * A
                        grad_step[e] += grad_exponent * rates[n, e]
                        grad_rates[n, e] += grad_exponent * step
                    grad_B[b, t, n] = to_B
                    grad_C[b, t, n] = to_C
                for e in range(E):
                    gy = grad_y[b, t, e]
                    grad_u[b, t, e] = grad_drive[e] * delta[b, t, e] + gy * D[e]
                    grad_delta[b, t, e] = grad_step[e] + grad_drive[e] * u[b, t, e]
                    grad_D[b, e] += gy * u[b, t, e]
        grad_A[b] = grad_rates.T
