"""What the benchmark counts of adapters: operations by formula, and the numbers of the paper's figure 1(c)."""

from dataclasses import replace

import matplotlib.image
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunetv2_tpmamba.benchmark import chart, flops, measure
from nnunetv2_tpmamba.benchmark.setting import Setting

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def operations():
    """The rows of the network's own grid, and those of figure 1(c)'s."""
    results = [measure.run_task(each, CPU, repeats=1) for each in flops.tasks(Setting.of(CPU))]
    return [{result.name: result for result in group} for group in results]


T, C, R, E, N = 96 * 12 * 12, 768, 96, 192, 16
FIGURE = 96 * 6 * 6  # tokens in the paper's figure 1(c)


def triplane_flops():
    depth_convs = 2 * T * 3 * (C * R + R * R + R * C)  # narrow, the four dilations together, widen
    linears = 2 * T * (R * 2 * E + E * (6 + 2 * N) + 6 * E + E * R)
    short_conv = sum(2 * batch * L * E * 4 for batch, L in ((96, 144), (12, 1152), (12, 1152)))
    return depth_convs + 3 * linears + short_conv + 3 * 9 * T * E * N


@pytest.mark.parametrize(
    ("name", "flop", "parameters"),
    [
        ("LoRA, rank 64 on q and v", 2 * T * 4 * 64 * C, 4 * 64 * C),
        ("MA-SAM's convolution, 96 channels", 2 * T * (2 * C * R + 3 * R * R), 2 * C + 2 * C * R + 3 * R * R + R),
        ("MA-SAM's convolutions, 2 of 384 channels", 2 * 2 * T * (2 * C * 384 + 3 * 384**2), None),
        ("self-attention over the volume, 96 channels", 2 * T * (2 * C * R + 4 * R * R) + 4 * T * T * R, None),
        ("self-attention over the volume, 768 channels", 8 * T * C * C + 4 * T * T * C, 4 * C * C + 5 * C),
        ("TP-Mamba, 96 channels", triplane_flops(), None),
    ],
)
def test_operations_are_those_of_the_formulas(operations, name, flop, parameters):
    result = operations[0][name]
    assert result.flops == flop
    assert parameters is None or result.parameters == parameters
    assert result.printed is None


def test_the_number_of_figure_1c_is_found_on_its_grid(operations):
    result = operations[1]["self-attention as figure 1(c) counts it"]
    assert result.flops / 2 == 2 * C * FIGURE**2 + 2 * C * R * FIGURE
    assert round(result.flops / 2e9, 2) == round(result.printed / 2e9, 2) == 18.86
    assert result.task == "adapters of one block, 96 x 6 x 6 tokens of 768"


def test_loras_number_is_what_the_paper_divides_by(operations):
    result = operations[1]["LoRA, rank 64 on q and v"]
    assert result.flops / 2 == 4 * 64 * C * FIGURE
    assert result.printed == pytest.approx(2 * 0.130e9, rel=1e-3)


def test_only_the_figures_own_setting_has_the_papers_numbers(operations):
    tasks = flops.tasks(Setting.of(CPU, small=True))
    small = [result for each in tasks for result in measure.run_task(each, CPU, repeats=1)]
    assert {result.printed for result in [*small, *operations[0].values()]} == {None}
    assert sum(result.printed is not None for result in operations[1].values()) == 2


def test_the_picture_marks_the_papers_numbers(operations, tmp_path):
    facts = {"device": "cpu", "precision": "float32", "sizes": "full"}
    black = []
    for printed in (None, 2e10):
        results = [replace(result, printed=printed) for result in operations[1].values()]
        chart.draw(results, facts, tmp_path / "chart.png")
        black.append((matplotlib.image.imread(tmp_path / "chart.png")[..., :3].max(-1) < 0.1).sum())
    assert black[1] > black[0] + 1000


def test_a_counted_module_has_no_data():
    with FakeTensorMode():
        assert flops.counted(nn.Linear(10**6, 10**6), torch.empty(1, 10**6)) == 2 * 10**12
