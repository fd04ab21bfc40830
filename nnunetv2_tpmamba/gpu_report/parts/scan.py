"""The implementations of the selective scan: each against the reference, and their times."""

import importlib.util
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nnunetv2_tpmamba.benchmark import scan as benchmark
from nnunetv2_tpmamba.benchmark.measure import run_task
from nnunetv2_tpmamba.gpu_report.work import Work
from nnunetv2_tpmamba.networks.mamba import MambaBlock
from nnunetv2_tpmamba.networks.ops.implementations import Implementation, available_implementations, using
from nnunetv2_tpmamba.networks.ops.operator import selective_scan
from nnunetv2_tpmamba.networks.ops.reference import selective_scan_reference

LARGEST_ERROR = 1e-3  # of the largest value; as tests/networks/ops/test_operator.py allows
REPEATS = 3
ODD_SHAPES = ((3, 65), (1, 1))  # sequences and steps that 16, the length of a chunk, does not divide
WIDTH = 96  # channels of a Mamba block
VARYING = ("mamba-ssm",)  # its threads add up gradients in no fixed order


def measure(work: Work) -> None:
    found = available_implementations(work.setting.device.type)
    work.notebook.note("implementations that work, the fastest first", ", ".join(each.name for each in found))
    work.notebook.note("why others are not used", found[-1].note or "all are")
    for batch, steps in (*benchmark.shapes(work.setting), *ODD_SHAPES):
        compare(work, found, batch, steps)
    compare_with_mamba_ssm(work)
    for task in benchmark.tasks(work.setting):
        for result in run_task(task, work.setting.device, REPEATS):
            work.notebook.result(result)


def compare(work: Work, found: Sequence[Implementation], batch: int, steps: int) -> None:
    """Compare the output and all gradients of each implementation with the reference's in float64."""
    torch.manual_seed(0)
    inputs = benchmark.random_inputs(work.setting.config, batch, steps, work.setting.device)
    cotangent = torch.randn_like(inputs[0])
    expected = _output_and_gradients(selective_scan_reference, [x.double() for x in inputs], cotangent.double())
    for each in found:
        name = f"{each.name}, {batch} x {steps} steps: largest error of output and gradients"
        with using(lambda chosen, each=each: each):  # type: ignore[misc]
            actual = _output_and_gradients(selective_scan, inputs, cotangent)
            again = _output_and_gradients(selective_scan, inputs, cotangent)
        error = max(_relative_error(a, e) for a, e in zip(actual, expected, strict=True))
        work.notebook.check(name, error < LARGEST_ERROR, float(f"{error:.2e}"))
        same = all(torch.equal(a, b) for a, b in zip(actual, again, strict=True))
        title = f"{each.name}, {batch} x {steps} steps: the same in every run"
        if each.name in VARYING:
            work.notebook.note(title, "yes" if same else "no")
        else:
            work.notebook.check(title, same)


def compare_with_mamba_ssm(work: Work) -> None:
    """Compare a block with mamba-ssm's on the same weights, where that package is installed."""
    name = "MambaBlock against mamba-ssm's Mamba"
    if importlib.util.find_spec("mamba_ssm") is None:
        work.notebook.note(name, "mamba-ssm is not installed; pip install 'nnunetv2_tpmamba[cuda]' brings it")
        return
    try:
        from mamba_ssm import Mamba

        theirs, ours = (kind(WIDTH).to(work.setting.device) for kind in (Mamba, MambaBlock))
        ours.load_state_dict(theirs.state_dict())
        sequence = torch.randn(3, 65, WIDTH, device=work.setting.device)
        with torch.no_grad():
            error = _relative_error(ours(sequence), theirs(sequence))
        work.notebook.check(name, error < LARGEST_ERROR, float(f"{error:.2e}"))
    except Exception as error:  # its compiled parts may not fit this torch
        work.notebook.note(name, f"mamba-ssm does not work here: {type(error).__name__}: {error}".splitlines()[0])


def _output_and_gradients(
    scan: Callable[..., Tensor], inputs: Sequence[Tensor], cotangent: Tensor
) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    y = scan(*leaves)
    return (y.detach(), *torch.autograd.grad(y, leaves, cotangent))


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, as a part of the largest expected value; infinite where values are not finite."""
    if not actual.isfinite().all():
        return float("inf")
    return float((actual.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-12))
