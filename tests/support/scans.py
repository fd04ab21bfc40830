"""Inputs of the selective scan."""

import torch

NAMES = ("u", "delta", "A", "B", "C", "D")


def scan_inputs(batch, L, E, N, dtype=torch.float32, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).to(device)

    delta = torch.nn.functional.softplus(normal(batch, L, E) - 2)
    A = -torch.exp(normal(E, N))
    return [normal(batch, L, E), delta, A, normal(batch, L, N), normal(batch, L, N), normal(E)]
