"""The selective scan: every implementation that works here, at the shapes the network has."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.networks.ops.implementations import Implementation, available_implementations
from nnunetv2_tpmamba.networks.ops.reference import selective_scan_reference

from .setting import Setting
from .task import Contestant, Makers, Task


def tasks(setting: Setting) -> list[Task]:
    return [
        Task("scan", f"{batch} x {L} steps, {'forward + backward' if train else 'forward'}", partial(prepare, *shape))
        for batch, L in shapes(setting)
        for train, prepare in ((False, _forward), (True, _forward_and_backward))
        for shape in [(setting, batch, L)]
    ]


def shapes(setting: Setting) -> list[tuple[int, int]]:
    """Sequences and steps of the plane of the slices, and of the plane of the rows along depth."""
    D, (h, w) = setting.patch_size[0], setting.grid_of(setting.config)
    return [(D, h * w), (h, D * w)]


def step_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Scan as one would write it in PyTorch for speed: step by step with the state in place, without gradients."""
    x = u.new_zeros(len(u), *A.shape)
    y = D * u
    for t in range(u.shape[1]):
        x.mul_(torch.exp(delta[:, t, :, None] * A))
        x.addcmul_((delta[:, t] * u[:, t])[:, :, None], B[:, t, None, :])
        y[:, t] += (x @ C[:, t, :, None])[..., 0]
    return y


def random_inputs(config: TPMambaConfig, batch: int, L: int, device: torch.device) -> tuple[Tensor, ...]:
    """Draw ``u, delta, A, B, C, D`` like those of a trained network: small steps, decay rates from 1 to N."""
    E, N = config.expand * config.adapter_dim, config.d_state
    u, B, C, D = (torch.randn(shape, device=device) for shape in ((batch, L, E), (batch, L, N), (batch, L, N), (E,)))
    delta = 0.1 * torch.rand(batch, L, E, device=device)
    return u, delta, -torch.arange(1.0, N + 1, device=device).expand(E, N).contiguous(), B, C, D


def scan_flops(batch: int, L: int, E: int, N: int) -> int:
    """Estimate the operations of a forward pass: nine for each step, channel and state.

    Source: the count in issue 110 of state-spaces/mamba, as VMamba's ``flops_selective_scan_fn`` has it.
    """
    return 9 * batch * L * E * N


def _forward(setting: Setting, batch: int, L: int) -> Makers:
    inputs = random_inputs(setting.config, batch, L, setting.device)

    def contestant(call: Callable[..., object]) -> Contestant:
        return Contestant(partial(_without_gradients, call, *inputs))

    return {
        "step loop": lambda: contestant(step_loop),
        **{
            scan.name: lambda scan=scan: contestant(scan.forward)  # type: ignore[misc]
            for scan in available_implementations(setting.device.type)
        },
    }


def _forward_and_backward(setting: Setting, batch: int, L: int) -> Makers:
    inputs = random_inputs(setting.config, batch, L, setting.device)
    cotangent = torch.randn_like(inputs[0])

    def by_autograd() -> None:
        leaves = [x.detach().requires_grad_() for x in inputs]
        torch.autograd.grad(selective_scan_reference(*leaves), leaves, cotangent)

    def by_hand(scan: Implementation) -> None:
        _, states = scan.forward(*inputs)
        scan.backward(cotangent, *inputs, states)

    return {
        "autograd of the reference": lambda: Contestant(by_autograd),
        **{
            scan.name: lambda scan=scan: Contestant(partial(_without_gradients, by_hand, scan))  # type: ignore[misc]
            for scan in available_implementations(setting.device.type)
        },
    }


def _without_gradients(call: Callable[..., object], *inputs: object) -> None:
    with torch.no_grad():
        call(*inputs)
