"""The report's parts themselves, on the CPU in tiny sizes: what they find out, and that they run at all."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK
import torch
from support.configs import TINY
from support.nnunet import REPOSITORY

from nnunetv2_tpmamba.benchmark.setting import Setting
from nnunetv2_tpmamba.demo.phantom import Scan, write_volume
from nnunetv2_tpmamba.gpu_report import report
from nnunetv2_tpmamba.gpu_report.catalogue import PARTS
from nnunetv2_tpmamba.gpu_report.notebook import Notebook, read_notebook
from nnunetv2_tpmamba.gpu_report.parts import card, data, network, rows, scan, speed, training, unit_tests
from nnunetv2_tpmamba.gpu_report.process import FINISHED
from nnunetv2_tpmamba.gpu_report.work import Work
from nnunetv2_tpmamba.networks.ops import loop
from nnunetv2_tpmamba.networks.ops.implementations import LOOP
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def work(tmp_path):
    return Work(Setting.of(CPU, small=True), tmp_path, Notebook(tmp_path / "notes.jsonl"), time.monotonic() + 300)


@pytest.fixture
def found(work, tmp_path):
    """The notes so far, by name."""
    return lambda: {note.name: note for note in read_notebook(tmp_path / "notes.jsonl").notes}


def test_the_scans_are_compared_with_the_reference(work, found, monkeypatch):
    monkeypatch.setattr(scan.benchmark, "tasks", lambda setting: [])  # tests/benchmark has them
    scan.measure(work)
    checks = [note for note in found().values() if note.passed is not None]
    assert all(note.passed for note in checks)
    assert {note.name.partition(",")[0] for note in checks} == {"numba", "PyTorch loop"}


@pytest.mark.parametrize("wrong", [lambda y: y * 1.01, lambda y: y / 0])
def test_a_wrong_scan_is_found(work, found, wrong):
    def forward(*inputs):
        y, states = loop.scan_forward(*inputs)
        return wrong(y), states

    scan.compare(work, [LOOP._replace(name="wrong", forward=forward)], 2, 19)
    assert found()["wrong, 2 x 19 steps: largest error of output and gradients"].passed is False


def test_what_the_driver_says_is_told(work, found, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '535.104, 16384 MiB, 300 MiB, 3 %, 70.00 W, 1590 MHz'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    card.ask_driver(work.notebook)
    assert found()["nvidia-smi 0"].value.startswith("driver_version 535.104, memory.total 16384 MiB")
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(card, "ANSWER_TIME", 0.5)
    card.ask_driver(work.notebook)
    assert "TimeoutExpired" in found()["nvidia-smi"].value
    program.unlink()
    card.ask_driver(work.notebook)
    assert found()["nvidia-smi"].value == "not found"


def test_doctors_findings_are_checks(work, found, monkeypatch):
    from nnunetv2_tpmamba.doctor.finding import Finding

    monkeypatch.setattr(card, "CHECKS", {name: lambda: Finding("note", "so so") for name in card.CHECKED})
    monkeypatch.setitem(card.CHECKS, "device", lambda: Finding("FAIL", "no"))
    card.measure(work)
    assert {name for name, note in found().items() if note.passed} == {
        f"doctor: {name}" for name in card.CHECKED if name != "device"
    }
    assert (found()["doctor: device"].passed, found()["doctor: device"].value) == (False, "FAIL: no")


def test_graph_breaks_are_found(work, found):
    from torch._dynamo.utils import counters

    def whole(x):
        return x + 1

    def broken(x):
        x = x + 1
        torch._dynamo.graph_break()
        return x * 2

    for function, breaks in ((whole, 0), (broken, 1)):
        torch._dynamo.reset()
        counters.clear()
        torch.compile(function, backend="eager")(torch.ones(3))
        training.tell_of_compilation(work, compiled=True)
        assert (found()["graph breaks"].value, found()["graph breaks"].passed) == (breaks, breaks == 0)
        assert found()["graphs"].value == 1 + breaks


def test_a_sam_file_of_random_weights_is_one(tmp_path):
    data.write_random_sam(tmp_path / "sam.pth", TINY)
    weights = read_sam_checkpoint(tmp_path / "sam.pth", TINY)
    assert all(weights[name].std() > 0 for name in weights if "rel_pos" in name)


def test_a_crop_lies_where_it_was(tmp_path):
    label = np.zeros((60, 200, 220), np.uint8)
    label[50:58, 20:40, 100:140] = 2
    image = np.random.default_rng(0).integers(-1000, 1000, label.shape).astype(np.int16)
    whole = Scan(image, label, (3.0, 1.5, 1.5), (-10.0, 20.0, -500.0))
    part = data.cropped(whole)
    assert [n * step for n, step in zip(part.label.shape, part.spacing, strict=True)] == pytest.approx([140] * 3, abs=3)
    assert (part.label == 2).sum() == (label == 2).sum()
    images = []
    for name, each in {"whole": whole, "part": part}.items():
        write_volume(each.image, each, tmp_path / f"{name}.nii.gz")
        images.append(SimpleITK.ReadImage(str(tmp_path / f"{name}.nii.gz")))
    corner = images[0].TransformPhysicalPointToIndex(images[1].GetOrigin())
    assert images[0][corner] == images[1][0, 0, 0]


def test_precisions_are_compared(work, found):
    network.compare_precisions(work, "TPMamba", work.setting.config)
    assert found()["TPMamba: float32 against float32, relative error of the logits"].value == 0


def test_a_network_that_does_not_fit_leaves_the_others(work, found, monkeypatch):
    def lacks(work, name, config):
        if not config.checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        work.notebook.note(f"{name} fits", 1)

    monkeypatch.setattr(network, "compare_memory", lacks)
    monkeypatch.setattr(network, "compare_precisions", lambda *arguments: None)
    network.measure(work)
    assert found()["TPMamba: does not fit"].value == "OutOfMemoryError: CUDA out of memory. Tried"
    assert found()["TPMamba_grid6 fits"]


def test_adapters_that_are_awake_do_something():
    fresh = network.TPMamba(1, 2, TINY)
    volume = torch.rand(1, 1, 4, 16, 16)
    features = fresh.features(volume)
    assert not torch.equal(network.awake(fresh).features(volume)[-1], features[-1])


@pytest.mark.parametrize(("side", "number"), [(96, 1), (97, 8), (144, 8), (192, 27), (300, 216)])
def test_windows_of_a_sliding_window(side, number):
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    assert speed.patches_of_cube(side, (96, 96, 96)) == number
    assert len(compute_steps_for_sliding_window((side,) * 3, (96,) * 3, 0.5)[0]) ** 3 == number


def test_the_rows_of_table_1_take_a_step_each_and_nothing_is_counted_beside(work, found, tmp_path, monkeypatch):
    monkeypatch.setattr("nnunetv2_tpmamba.benchmark.rows.forward_flops", None)
    rows.measure(work)
    results = read_notebook(tmp_path / "notes.jsonl").results
    assert [(result.task, result.name, result.repeats, result.error) for result in results] == [
        ("nnUNetTrainerTestbed_nnUNet", "training step", 1, ""),
        ("nnUNetTrainerTPMamba", "training step", 1, ""),
    ]
    assert found()["rows measured"].value == "2 of 2"


TESTS = """
import pytest

def test_good():
    pass

def test_bad():
    assert 1 == 2

@pytest.mark.skip(reason="needs the [cuda] extra")
def test_left_out():
    pass"""
CRASHES = """
import os

def test_good():
    pass

def test_that_crashes():
    os.abort()
"""


def test_each_test_is_noted_when_it_ends(work, found, tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS)
    unit_tests.run_tests(work.notebook, ["test_some.py", "-p", "no:warnings"], tmp_path)
    notes = found()
    assert (notes["test_some.py::test_good"].value, notes["test_some.py::test_good"].passed) == ("passed", True)
    assert notes["test_some.py::test_bad"].passed is False
    assert "assert 1 == 2" in notes["test_some.py::test_bad"].value
    assert notes["test_some.py::test_left_out"].value == "Skipped: needs the [cuda] extra"
    assert notes["tests"].value == "3 run"


def test_the_test_that_ran_in_a_crash_is_noted(found, tmp_path):
    (tmp_path / "test_some.py").write_text(CRASHES)
    code = f"""
from pathlib import Path
from nnunetv2_tpmamba.gpu_report.notebook import Notebook
from nnunetv2_tpmamba.gpu_report.parts.unit_tests import run_tests
run_tests(Notebook(Path("notes.jsonl").absolute()), ["test_some.py"], Path({str(tmp_path)!r}))
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert process.returncode == -signal.SIGABRT
    notes = found()
    assert notes["test_some.py::test_good"].passed
    crashed = notes["test_some.py::test_that_crashes"]
    assert (crashed.value, crashed.passed) == ("did not end", False)


def test_tests_that_cannot_be_collected_fail_the_part(work, tmp_path):
    (tmp_path / "test_some.py").write_text("import no_such_module")
    with pytest.raises(RuntimeError, match="pytest ended with status 2"):
        unit_tests.run_tests(work.notebook, ["test_some.py"], tmp_path)


def test_the_marked_tests_are_found_and_their_absence_is_told(work, found, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    names = {file.name for file in unit_tests.marked_tests(unit_tests.find_clone() / "tests")}
    assert {"test_operator.py", "test_memory.py", "test_tpmamba.py"} <= names
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(unit_tests, "__file__", str(tmp_path / "a/b/c/d.py"))
    on_a_gpu = Work(Setting.of(torch.device("cuda"), small=True), tmp_path, work.notebook, work.deadline)
    unit_tests.measure(on_a_gpu)
    assert found()["not run"].value.startswith(
        "the tests are no part of an installed package; run the report in a clone"
    )


@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_all_parts_run_on_a_cpu_in_tiny_sizes(tmp_path):
    """What the command does with ``--small --device cpu``, with more time."""
    report.claim(tmp_path / "report", print)
    report.write_report(tmp_path / "report", 25, "cpu", small=True)
    content = json.loads((tmp_path / "report" / report.JSON).read_text())
    assert content["complete"]
    assert {each["name"]: (each["state"], each["reason"]) for each in content["parts"]} == {
        part.name: (FINISHED, "") for part in PARTS
    }
    assert not [note for each in content["parts"] for note in each["notes"] if note["passed"] is False]
    notes = {each["name"]: {note["name"] for note in each["notes"]} for each in content["parts"]}
    assert "the prediction lies on the image's grid" in notes["prediction"]
    assert "4 iterations were taken" in notes["training"]
    assert "status 75 after SIGUSR1" in notes["preemption"]
    assert "--estimate: nnUNetTrainerTPMamba_demo" in notes["estimate"]
    assert "TPMamba, checkpointing: peak of a step against its count" in notes["network"]
