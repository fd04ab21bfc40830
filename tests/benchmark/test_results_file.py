"""Comparing a new measurement with an older file: ratios, what differs, and files that are refused."""

import json
from dataclasses import replace

import pytest

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.benchmark import measure, report
from nnunetv2_tpmamba.benchmark.load import AVERAGE, BUSY, PER_CORE, load, load_warnings
from nnunetv2_tpmamba.benchmark.results_file import COMPARED, ResultsFile, as_json
from nnunetv2_tpmamba.benchmark.task import Result, Task

ABOUT = {"date": "2026-11-23", PER_CORE: "0.10", AVERAGE: "0.20", **dict.fromkeys(COMPARED, "as before")}
OLD = [
    Result("scan", "a task", "numba", seconds=2.0, repeats=5, peak_bytes=100),
    Result("scan", "a task", "loop", seconds=4.0, repeats=5),
    Result("scan", "another task", "numba", seconds=8.0, repeats=5),
    Result("scan", "a task", "failed", error="ImportError: no"),
]
NEW = [
    Result("scan", "a task", "numba", seconds=1.0, repeats=5, peak_bytes=150),
    Result("scan", "a task", "loop", seconds=6.0, repeats=5, peak_bytes=100),
    Result("scan", "a new task", "numba", seconds=1.0, repeats=5),
    Result("scan", "a task", "failed", seconds=1.0, repeats=5),
]


def write(folder, results=OLD, **about):
    file = folder / "old.json"
    file.write_text(as_json(results, ABOUT | about, complete=True))
    return file


def test_a_file_is_read_as_it_was_written(tmp_path):
    old = ResultsFile.read(write(tmp_path))
    assert (old.name, old.about, old.results) == ("old.json", ABOUT, OLD)


def test_files_of_other_versions_are_read(tmp_path):
    """An older one lacks some fields, a newer one has some that are not known."""
    file = tmp_path / "old.json"
    row = {"part": "scan", "task": "a task", "name": "numba", "seconds": 2.0, "a new field": 1}
    file.write_text(json.dumps({"about": {}, "complete": True, "rows": [row]}))
    assert ResultsFile.read(file).results == [Result("scan", "a task", "numba", seconds=2.0)]


def test_a_result_is_compared_with_the_same_one(tmp_path):
    compared = ResultsFile.read(write(tmp_path)).beside(NEW)
    ratios = [(result.old_time_ratio, result.old_memory_ratio) for result in compared]
    assert ratios == [(0.5, 1.5), (1.5, None), (None, None), (None, None)]
    assert [replace(result, old_time_ratio=None, old_memory_ratio=None) for result in compared] == NEW
    assert report.summary(compared[0]) == "numba: 1 s, 150 MiB, 0.5 x its old time, 1.5 x its old memory".replace(
        "150 MiB", report.size(150)
    )
    table = report.as_markdown(compared, ABOUT, complete=True)
    assert "| time / old " in table
    assert "| memory / old " in table
    assert "in the older file" in table
    assert "/ old" not in report.as_markdown(NEW, ABOUT, complete=True)


@pytest.mark.parametrize("fact", COMPARED)
def test_every_fact_that_changes_times_is_told(tmp_path, fact):
    old = ResultsFile.read(write(tmp_path))
    assert old.warnings(ABOUT) == []
    assert old.warnings(ABOUT | {fact: "new"}) == [f"{fact} is new here, and as before in old.json"]


def test_another_load_is_told(tmp_path):
    old = ResultsFile.read(write(tmp_path))
    assert old.warnings(ABOUT | {PER_CORE: "0.35"}) == []
    assert old.warnings(ABOUT | {PER_CORE: "1.50"}) == ["the load per core is 1.50 here, and 0.10 in old.json"]
    silent = replace(old, about={name: fact for name, fact in ABOUT.items() if name != PER_CORE})
    assert silent.warnings(ABOUT) == ["old.json does not say how busy the machine was"]


def test_a_busy_machine_is_told(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (3.0, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert load() == {AVERAGE: "3.00", PER_CORE: "0.75"}
    (warning,) = load_warnings(load())
    assert warning.startswith("other work keeps this machine busy: its load average is 3.00, 0.75 per core")
    assert load_warnings({PER_CORE: str(BUSY)}) == load_warnings({}) == []


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        "[1, 2]",
        '{"rows": []}',
        '{"about": {}, "rows": [{"part": "scan"}]}',
        '{"about": {}, "rows": [3]}',
        '{"about": {}, "rows": [{"part": "scan", "task": "a", "name": "b", "seconds": "fast"}]}',
    ],
)
def test_another_file_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys, content):
    monkeypatch.setattr(measure, "run_task", lambda *arguments: pytest.fail("something was measured"))
    file = tmp_path / "old.json"
    file.write_text(content)
    arguments = ["benchmark", "--small", "--device", "cpu", "--out", str(tmp_path / "out"), "--compare", str(file)]
    assert cli.main(arguments) == 1
    assert f"{file} is not what nnUNetv2_tpmamba benchmark --json FILE writes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_one_of_other_tasks_are_refused(tmp_path, capsys):
    arguments = ["benchmark", "--small", "--device", "cpu", "--out", str(tmp_path), "--only", "flops", "--compare"]
    assert cli.main([*arguments, str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
    assert cli.main([*arguments, str(write(tmp_path))]) == 1
    assert "--compare old.json holds other tasks (scan); choose the same ones with --only" in capsys.readouterr().err


def test_the_command_shows_ratios_and_warnings(tmp_path, monkeypatch, capsys):
    task = Task("scan", "a task", dict)
    monkeypatch.setattr("nnunetv2_tpmamba.benchmark.catalogue.tasks_of", lambda parts, setting: [task])
    monkeypatch.setattr(measure, "run_task", lambda *arguments, **options: NEW[:2])
    new = tmp_path / "new.json"
    arguments = ["benchmark", "--small", "--device", "cpu", "--out", str(tmp_path), "--json", str(new)]
    assert cli.main([*arguments, "--compare", str(write(tmp_path, precision="bf16"))]) == 0
    output = capsys.readouterr()
    assert "numba: 1 s, 0.000143 MiB, 0.5 x its old time, 1.5 x its old memory" in output.out
    assert "warning: precision is float32 here, and bf16 in old.json" in output.err
    table = (tmp_path / "benchmark.md").read_text()
    assert "- compared with: old.json, of 2026-11-23" in table
    assert "- **warning**: precision is float32 here, and bf16 in old.json" in table
    content = json.loads(new.read_text())
    assert "precision is float32 here, and bf16 in old.json" in content["warnings"]
    assert content["about"][PER_CORE]
    assert [row["old_time_ratio"] for row in content["rows"]] == [0.5, 1.5]
