"""The verb ``benchmark`` at tiny sizes: what is measured, not how fast it was."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import nn

from nnunetv2_tpmamba import TPMamba, TPMambaConfig, cli
from nnunetv2_tpmamba.benchmark import PARTS, chart, measure, report
from nnunetv2_tpmamba.benchmark.catalogue import MODULES, tasks_of
from nnunetv2_tpmamba.benchmark.encoder import our_forward, sam_encoder, timm_blocks, timm_forward
from nnunetv2_tpmamba.benchmark.network import TimmEncoder, predicting, random_volume, seconds_in_scans
from nnunetv2_tpmamba.benchmark.peak_memory import PeakMemory, held_bytes
from nnunetv2_tpmamba.benchmark.results_file import as_json
from nnunetv2_tpmamba.benchmark.scan import random_inputs, shapes, step_loop
from nnunetv2_tpmamba.benchmark.setting import Setting
from nnunetv2_tpmamba.benchmark.task import Contestant, Result, Task
from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet, plan_unet
from nnunetv2_tpmamba.networks.kept_weights import KeptLinear
from nnunetv2_tpmamba.networks.ops.implementations import implementation_for
from nnunetv2_tpmamba.networks.ops.reference import selective_scan_reference

CPU = torch.device("cpu")
SMALL = Setting.of(CPU, small=True)
MIB = 2**20
RESULTS = [
    Result("encoder", "one matrix product", "matrix product", seconds=0.001, repeats=3, flops=2e9),
    Result("encoder", "blocks", "timm", seconds=0.004, repeats=3, peak_bytes=300 * MIB, flops=4e9),
    Result("encoder", "blocks", "ours", 0.002, 3, 100 * MIB, "timm", 0.5, 1 / 3, 4e9, note="a | b"),
    Result("network", "forward", "TPMamba", error="OutOfMemoryError: no"),
    Result("flops", "adapters", "LoRA", flops=5e9, printed=4e9, parameters=196608),
]
FACTS = {"device": "a processor", "precision": "float32", "sizes": "full", "command": "nnUNetv2_tpmamba benchmark"}


def task(**makers):
    return Task("network", "a task", lambda: makers)


def fails(error):
    raise error


def test_networks_are_built_where_they_are_measured():
    built = []

    def make():
        built.append(nn.Linear(2, 2))
        built[0].table = nn.Parameter(torch.zeros(2, device="cpu"))
        assert built[0].weight.is_meta
        return built[0]

    network = replace(SMALL, device=torch.device("meta")).build(make)
    assert network is built[0]
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    ("part", "peers", "ours"),
    [
        ("encoder", {"timm", "matrix product"}, {"ours"}),
        ("scan", {"step loop", "autograd of the reference"}, {"numba", "PyTorch loop"}),
        ("network", {"timm's encoder", "stock nnU-Net"}, {"TPMamba", "TPMamba_grid6", "TPMamba, checkpointing"}),
        ("prediction", {"stock nnU-Net"}, {"TPMamba", "TPMamba_grid6"}),
        ("flops", {"LoRA, rank 4 on q and v"}, {"TP-Mamba, 8 channels"}),
    ],
)
def test_every_row_of_a_part_succeeds_and_names_both_peers(part, peers, ours):
    results = [result for each in tasks_of([part], SMALL) for result in measure.run_task(each, CPU, repeats=1)]
    assert not [result for result in results if result.error]
    assert peers | ours <= {result.name for result in results}
    assert all(result.part == part and (result.seconds or result.flops) for result in results)
    ratios = {(result.name, result.against) for result in results if result.time_ratio}
    assert part == "flops" or {name for name, _ in ratios} >= ours
    for result in results:
        if result.time_ratio:
            (other,) = [x for x in results if (x.task, x.name) == (result.task, result.against)]
            assert result.time_ratio == pytest.approx(result.seconds / other.seconds)


def test_the_parts_are_those_the_command_offers():
    assert tuple(MODULES) == PARTS


def test_a_median_is_taken_of_calls_in_turns_after_a_warm_up():
    calls = []
    seconds = {"a": iter([4.0, 1.0, 2.0]), "b": iter([1.0, 3.0, 8.0])}

    def make(name):
        def call():
            calls.append(name)
            return next(seconds[name])

        return Contestant(call, times_itself=True, warm_up=lambda: calls.append("warm-up"))

    a, b = measure.run_task(task(a=partial(make, "a"), b=partial(make, "b")), CPU, repeats=3)
    assert calls == ["warm-up", "warm-up", *"ababab"]
    assert (a.seconds, b.seconds, b.repeats, b.against, b.time_ratio) == (2.0, 3.0, 3, "a", 1.5)
    assert (a.against, a.time_ratio) == ("", None)


def test_slow_calls_are_repeated_less(monkeypatch):
    monkeypatch.setattr(measure, "LONGEST", -1)
    (result,) = measure.run_task(task(a=lambda: Contestant(lambda: None)), CPU, repeats=5)
    assert result.repeats == 1


@pytest.mark.parametrize("when", ["made", "warmed up", "measured"])
def test_one_that_fails_does_not_lose_the_others(when):
    error = torch.OutOfMemoryError("no memory left\nand a long list")
    contestants = {
        "made": lambda: fails(error),
        "warmed up": lambda: Contestant(lambda: fails(error)),
        "measured": lambda: Contestant(lambda: fails(error), warm_up=lambda: None),
    }
    results = measure.run_task(task(bad=contestants[when], good=lambda: Contestant(lambda: None)), CPU, repeats=2)
    assert [(result.name, result.error, result.repeats) for result in results] == [
        ("bad", "OutOfMemoryError: no memory left", 0),
        ("good", "", 2),
    ]


def test_a_task_that_cannot_be_prepared_is_a_row():
    (result,) = measure.run_task(Task("scan", "a task", lambda: fails(ValueError("no"))), CPU, repeats=1)
    assert (result.part, result.task, result.error) == ("scan", "a task", "ValueError: no")


def test_an_interrupt_is_not_taken_for_a_failure():
    with pytest.raises(KeyboardInterrupt):
        measure.run_task(task(a=lambda: Contestant(lambda: fails(KeyboardInterrupt()))), CPU, repeats=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is only known on Linux")
def test_peak_memory_sees_what_was_there_only_for_a_moment():
    with PeakMemory(CPU) as memory:
        torch.ones(64 * MIB, dtype=torch.uint8)
    if memory.bytes is None:
        pytest.skip("this system does not let a process reset its peak")
    assert 60 * MIB < memory.bytes < 80 * MIB
    with PeakMemory(CPU) as memory:
        pass
    assert memory.bytes < 8 * MIB


def test_what_a_network_holds_counts_gradients_and_optimiser():
    network = nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    assert held_bytes(network, optimizer) == 400
    network(torch.rand(1, 10)).sum().backward()
    optimizer.step()
    assert held_bytes(network, optimizer) == 1200


@pytest.mark.parametrize("config", [SMALL.config, SMALL.grid6])
def test_peers_of_the_encoder_compute_the_same(config):
    encoder = sam_encoder(config, CPU)
    tokens = torch.randn(2, *SMALL.grid_of(config), config.embed_dim)
    theirs, ours = timm_forward(timm_blocks(list(encoder.blocks)), tokens), our_forward(list(encoder.blocks), tokens)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    layers = [layer for block in timm_blocks(list(encoder.blocks)) for layer in block.modules()]
    assert not any(isinstance(layer, KeptLinear) for layer in layers)
    assert {id(x) for layer in layers for x in layer.parameters()} == {id(x) for x in encoder.blocks.parameters()}
    assert all(attention.rel_pos_h.abs().sum() > 0 for attention in encoder.attentions())
    slices = SMALL.grid_of(config)
    assert TimmEncoder(config, CPU)(torch.rand(1, 1, 2, 32, 32)).shape == (2, *slices, config.embed_dim)


def test_peers_of_the_scan_compute_the_same():
    inputs = random_inputs(SMALL.config, 2, 19, CPU)
    torch.testing.assert_close(step_loop(*inputs), selective_scan_reference(*inputs), rtol=1e-4, atol=1e-5)


def test_scans_have_the_networks_shapes():
    assert shapes(Setting(CPU)) == [(96, 144), (12, 1152)]
    u, _, A, *_ = random_inputs(TPMambaConfig(), 1, 2, CPU)
    assert (u.shape[2], *A.shape) == (192, 192, 16)


def test_scans_take_part_of_a_forward_and_run_afterwards_as_before():
    before = implementation_for("cpu")
    network = TPMamba(1, 2, SMALL.config)
    seconds = seconds_in_scans(predicting(network, random_volume(SMALL, (32, 32, 32)), SMALL), CPU)
    assert seconds > 0
    assert implementation_for("cpu") == before


@pytest.mark.parametrize("side", [96, 128])
def test_half_a_patch_is_enough_for_the_stock_network(side):
    """It warms a CPU up; a quarter would leave one voxel at the bottom, which instance norm refuses."""
    with torch.device("meta"):
        network = build_unet(1, 14, plan_unet((side,) * 3), deep_supervision=False)
        assert network(torch.rand(1, 1, *[side // 2] * 3)).shape[2:] == (side // 2,) * 3


def test_numbers_survive_a_file():
    content = json.loads(as_json(RESULTS, FACTS, complete=False))
    assert [Result(**result) for result in content["rows"]] == RESULTS
    assert (content["about"], content["complete"]) == (FACTS, False)


def test_the_table_has_every_row_and_only_columns_that_say_something():
    text = re.sub(" +", " ", report.as_markdown(RESULTS, FACTS, complete=True))
    assert "| blocks | timm | 4 ms (3) | 300 MiB | | | | 4 GFLOP | 50% of 2 TFLOP/s | |" in text
    assert "| | ours | 2 ms (3) | 100 MiB | timm | 0.5 | 0.333 | 4 GFLOP | 100% of 2 TFLOP/s | a / b |" in text
    assert "| forward | TPMamba | FAILED: OutOfMemoryError: no |" in text
    assert "| task | who | operations | multiply-adds | in the paper | parameters |" in text
    assert "| adapters | LoRA | 5 GFLOP | 2.5 G | 2 G | 0.197 M |" in text
    assert report.summary(RESULTS[-1]) == "LoRA: 5 GFLOP, 2.5 G multiply-adds (the paper: 2 G)"
    assert "not finished" in report.as_markdown(RESULTS, FACTS, complete=False)


@pytest.mark.parametrize(
    ("number", "text"), [(0.00433, "0.00433"), (0.5, "0.5"), (12.34, "12.3"), (1234.5, "1234"), (100, "100")]
)
def test_numbers_keep_three_digits_and_all_before_the_point(number, text):
    assert report.digits(number) == text


def test_numbers_keep_more_digits_where_asked():
    assert [report.digits(number, 4) for number in (18.8555, 0.13007, 326.1)] == ["18.86", "0.1301", "326.1"]


def test_the_picture_shows_bars_for_times_memory_and_work(tmp_path):
    chart.draw(RESULTS, FACTS, tmp_path / "chart.png")
    pixels = matplotlib.image.imread(tmp_path / "chart.png")[..., :3]
    blue, orange, green, purple = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C), (0x94, 0x67, 0xBD)
    for colour in (blue, orange, green, purple):
        assert (np.abs(pixels - np.divide(colour, 255)).max(axis=-1) < 0.01).sum() > 1000


def test_without_anything_to_compare_there_is_no_picture(tmp_path):
    path = tmp_path / "chart.png"
    path.write_text("an older one")
    chart.draw([replace(RESULTS[0])], FACTS, path)
    assert not path.exists()


def test_the_command_measures_writes_and_says_where(tmp_path):
    program = Path(sys.executable).with_name("nnUNetv2_tpmamba")
    options = ["--small", "--device", "cpu", "--repeats", "1", "--only", "flops", "scan", "--json", "numbers/a.json"]
    result = subprocess.run(
        [program, "benchmark", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "[1/6] scan: 32 x 16 steps, forward\n  step loop: " in result.stdout
    assert "[6/6] flops: adapters of one block" in result.stdout
    out = tmp_path / "tpmamba_benchmark"
    assert {file.name for file in out.iterdir()} == {"benchmark.md", "benchmark.png"}
    assert "TINY" in (out / "benchmark.md").read_text()
    content = json.loads((tmp_path / "numbers" / "a.json").read_text())
    assert content["complete"]
    assert content["about"]["command"].endswith("benchmark --device cpu --only flops scan --repeats 1 --small")
    assert {result["part"] for result in content["rows"]} == {"scan", "flops"}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """The command, run here, with what each of two tasks gives."""

    def run(*outcomes):
        results = iter(outcomes)

        def measured(*arguments, **options):
            outcome = next(results)
            return fails(outcome) if isinstance(outcome, BaseException) else outcome

        monkeypatch.setattr(measure, "run_task", measured)
        monkeypatch.setattr(
            "nnunetv2_tpmamba.benchmark.catalogue.tasks_of", lambda parts, setting: [task()] * len(outcomes)
        )
        return cli.main(["benchmark", "--small", "--device", "cpu", "--out", str(tmp_path)])

    return run


def test_ctrl_c_keeps_what_was_measured(quick, tmp_path, capsys):
    assert quick(RESULTS[:3], KeyboardInterrupt()) == 1
    assert capsys.readouterr().err.endswith("nnUNetv2_tpmamba benchmark: interrupted; the tasks above are kept\n")
    table = (tmp_path / "benchmark.md").read_text()
    assert "not finished" in table
    assert "| ours " in table
    assert (tmp_path / "benchmark.png").stat().st_size > 1000


def test_an_early_ctrl_c_leaves_older_results(quick, tmp_path, capsys):
    (tmp_path / "benchmark.md").write_text("older")
    assert quick(KeyboardInterrupt()) == 1
    output = capsys.readouterr()
    assert "nothing had been measured yet" in output.err
    assert f"{tmp_path / 'benchmark.md'} exists; it is replaced when the first task is done." in output.out
    assert (tmp_path / "benchmark.md").read_text() == "older"


def test_failed_rows_are_told_and_only_nothing_at_all_is_a_failed_run(quick, capsys):
    assert quick(RESULTS[:3], RESULTS[3:4]) == 0
    assert "1 of 4 results failed" in capsys.readouterr().out
    assert quick(RESULTS[3:4]) == 1


def test_where_nothing_can_be_written_or_measured_is_told_before_measuring(tmp_path, monkeypatch, capsys):
    assert cli.main(["benchmark", "--small", "--out", str(tmp_path), "--json", str(tmp_path)]) == 1
    assert f"{tmp_path} is a folder; name a file" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["benchmark", "--small", "--device", "cuda", "--out", str(tmp_path)]) == 1
    assert "finds no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--only", "decoder"], ["--repeats", "0"], ["--device", "tpu"]])
def test_wrong_use_exits_with_2(arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["benchmark", *arguments])
