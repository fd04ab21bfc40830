"""The report of a machine on which parts fail in every way: nothing of the others is lost, and time is shared."""

import getpass
import json
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
import torch

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.benchmark.task import Result
from nnunetv2_tpmamba.gpu_report import report
from nnunetv2_tpmamba.gpu_report.catalogue import PARTS, Part, chosen, limit_of
from nnunetv2_tpmamba.gpu_report.notebook import Findings, Note, Notebook, read_notebook
from nnunetv2_tpmamba.gpu_report.pages import Outcome, as_markdown
from nnunetv2_tpmamba.gpu_report.process import CRASHED, FAILED, FINISHED, INTERRUPTED, TIMED_OUT, Ending

GOOD = "work.notebook.check('sum', torch.ones(3).sum() == 3, 3.0, 'apples')"


def run(folder, *parts, minutes=2.0):
    said = []
    folder.mkdir(exist_ok=True)
    report.claim(folder, said.append)
    outcomes = report.write_report(folder, minutes, "cpu", small=True, log=said.append, parts=parts)
    return outcomes, json.loads((folder / report.JSON).read_text()), (folder / report.MARKDOWN).read_text(), said


def test_parts_that_fail_hang_and_crash_lose_nothing(tmp_path, write_part):
    folder = tmp_path / "report"
    parts = [
        write_part("raises", "work.notebook.note('before', 1)\nraise torch.OutOfMemoryError('CUDA out of memory')"),
        write_part("needs_it", GOOD, needs="raises"),
        write_part("aborts", "work.notebook.check('before', False, 2)\nprint('now', flush=True)\nos.abort()"),
        write_part("garbage", "os.write(1, bytes(range(256)) * 999)\nopen(sys.argv[3], 'ab').write(b'\\xff{\"note')"),
        write_part("good", f"{GOOD}\nprint(work.folder)"),
    ]
    _, content, page, said = run(folder, *parts)
    assert [(each["name"], each["state"]) for each in content["parts"]] == [
        ("raises", FAILED),
        ("needs_it", "not run"),
        ("aborts", CRASHED),
        ("garbage", FINISHED),
        ("good", FINISHED),
    ]
    by_name = {each["name"]: each for each in content["parts"]}
    assert by_name["raises"]["reason"] == "OutOfMemoryError: CUDA out of memory"
    assert by_name["needs_it"]["reason"] == "it needs the part raises, which did not finish"
    assert by_name["aborts"]["reason"] == "its process was ended by SIGABRT"
    torch_imported, begun, *notes = by_name["raises"]["notes"]
    assert 0 < torch_imported["value"] <= begun["value"]
    assert notes == [{"name": "before", "value": 1, "unit": "", "passed": None}]
    assert by_name["good"]["notes"][2:] == [{"name": "sum", "value": 3.0, "unit": "apples", "passed": True}]
    assert content["complete"]
    assert "| before | 2 | **FAILED** |" in " ".join(page.split())
    assert "Fatal Python error: Aborted" in page
    assert "  check failed: before: 2" in said
    assert (folder / "logs" / "good.log").read_text() == "WORK\n"
    assert {path.name for path in folder.iterdir()} == {report.JSON, report.MARKDOWN, report.LOGS}
    for text in (page, json.dumps(content), *(file.read_text() for file in (folder / "logs").iterdir())):
        assert str(tmp_path) not in text
        assert getpass.getuser() == "root" or getpass.getuser() not in text


def test_one_that_hangs_says_where_and_leaves_the_others_their_time(tmp_path, write_part):
    hangs = write_part("hangs", "work.notebook.note('begun', 1)\ntime.sleep(600)", share=1)
    good = write_part("good", GOOD, share=3)
    outcomes, content, page, _ = run(tmp_path / "report", hangs, good, minutes=48 / 60)
    assert [outcome.state for outcome in outcomes] == [TIMED_OUT, FINISHED]
    assert content["parts"][0]["reason"] == "it ran longer than its limit of 12 s and was ended"
    assert [note["name"] for note in content["parts"][0]["notes"]][-1] == "begun"
    assert 'part_hangs.py", line 4, in measure' in page


def test_ctrl_c_keeps_the_finished_parts(tmp_path, write_part, monkeypatch):
    parts = [write_part("good", GOOD), write_part("long", "time.sleep(600)"), write_part("never", GOOD)]
    endings = iter([Ending(FINISHED, "", 1.0, ""), Ending(INTERRUPTED, "it was interrupted", 2.0, "")])
    monkeypatch.setattr(report, "run_limited", lambda *arguments, **options: next(endings))
    folder = tmp_path / "report"
    with pytest.raises(KeyboardInterrupt):
        run(folder, *parts)
    content, page = json.loads((folder / report.JSON).read_text()), (folder / report.MARKDOWN).read_text()
    assert [each["state"] for each in content["parts"]] == [FINISHED, INTERRUPTED]
    assert not content["complete"]
    assert page.startswith("# GPU report, not finished")
    assert not (folder / report.WORK).exists()


def test_a_killed_report_leaves_no_part_running(tmp_path, write_part):
    started = tmp_path / "started"
    part = write_part("long", f"open({str(started)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    code = f"""
from pathlib import Path
from nnunetv2_tpmamba.gpu_report.catalogue import Part
from nnunetv2_tpmamba.gpu_report.report import claim, write_report
folder = Path({str(tmp_path / "report")!r})
claim(folder, print)
write_report(folder, 9, "cpu", small=True, parts=[{part!r}])
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while not (started.is_file() and started.read_text()):
            assert process.poll() is None
            time.sleep(0.2)
        running = psutil.Process(int(started.read_text()))
        process.kill()
    with suppress(psutil.NoSuchProcess):
        running.wait(30)
    assert not running.is_running()


def test_every_part_gets_its_share_and_what_others_leave():
    seconds = 480.0
    for index in range(len(PARTS)):  # each takes all it may
        limit = limit_of(PARTS, index, seconds)
        assert limit == pytest.approx(480 * PARTS[index].share / sum(part.share for part in PARTS))
        seconds -= limit
    assert seconds == pytest.approx(0)
    parts = [Part(name, "", 1, "") for name in "abc"]
    assert limit_of(parts, 1, 100) == 50
    assert limit_of(parts, 2, 90) == 90


def test_without_time_a_part_is_not_started(tmp_path, write_part):
    outcomes, *_ = run(tmp_path / "report", write_part("good", GOOD), minutes=0.001)
    assert outcomes[0].in_words() == "not run: no time was left for it; run it with --parts good, into another folder"


def test_the_parts_exist_and_need_earlier_ones():
    names = [part.name for part in PARTS]
    for index, part in enumerate(PARTS):
        assert callable(__import__(part.module, fromlist=["measure"]).measure)
        assert not part.needs or part.needs in names[:index]


def test_chosen_parts_bring_what_they_need():
    assert [part.name for part in chosen(["preemption", "prediction", "scan"])] == [
        *("scan", "data", "training", "prediction", "preemption")
    ]
    assert chosen([]) == list(PARTS)


def test_a_notebook_is_read_as_far_as_it_was_written(tmp_path):
    file = tmp_path / "a.jsonl"
    assert read_notebook(file) == Findings([], [])
    notebook = Notebook(file)
    notebook.note("speed", 1.0, "s")
    notebook.note("speed", float("nan"), "s")
    notebook.check("good", torch.tensor(3.0) > 2, "text")
    result = Result("scan", "a task", "numba", seconds=1.0, repeats=3)
    notebook.result(result)
    with file.open("ab") as cut:
        cut.write(
            b'[1]\n{"note": {"name": 1, "value": 2}}\n{"note": 3}\n{"result": {"part": "scan"}}\n{"note": {"name": "cut'
        )
    assert read_notebook(file) == Findings(
        [Note("speed", "nan", "s"), Note("good", "text", "", True), Note(1, 2)], [result]
    )


def test_the_page_shows_results_of_the_benchmark_and_escapes_cells():
    findings = Findings([Note("a | b", 0.123456, "s")], [Result("scan", "a task", "Triton", seconds=1.0, repeats=3)])
    outcome = Outcome(PARTS[0], Ending(FINISHED, "", 3.0, "said"), findings, limit=10.0)
    page = " ".join(as_markdown([outcome], {"torch": "2.15"}, complete=True).split())
    assert "| a / b | 0.1235 s | |" in page
    assert "| a task | Triton | 1 s (3) |" in page
    assert "said" not in page


@pytest.fixture
def gpu_less(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_without_a_gpu_it_is_refused_at_once(gpu_less, tmp_path, capsys):
    assert cli.main(["benchmark", "--gpu-report", str(tmp_path / "report")]) == 1
    assert (
        "--gpu-report: PyTorch finds no CUDA device here. Give this command on a machine with"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "scan"], "--gpu-report measures what it always measures: leave out --only"),
        (["--json", "a.json", "--compare", "b.json"], "leave out --json, --compare"),
        (["--device", "cpu"], "--gpu-report is for a GPU; with --device cpu it can only be tried, with --small"),
    ],
)
def test_options_that_it_does_not_have_are_refused(tmp_path, capsys, options, message):
    assert cli.main(["benchmark", "--gpu-report", str(tmp_path / "report"), *options]) == 1
    assert message in capsys.readouterr().err


def test_minutes_without_the_report_are_refused(capsys):
    assert cli.main(["benchmark", "--minutes", "3"]) == 1
    assert "--minutes limits --gpu-report, which is not given" in capsys.readouterr().err


def test_parts_without_the_report_are_refused(capsys):
    assert cli.main(["benchmark", "--parts", "scan"]) == 1
    assert "--parts chooses parts of --gpu-report, which is not given" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused_and_an_earlier_report_replaced(tmp_path):
    said = []
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="holds other files; name a new folder"):
        report.claim(tmp_path, said.append)
    with pytest.raises(ValueError, match=r"mine\.txt is a file; name a folder"):
        report.claim(tmp_path / "mine.txt", said.append)
    folder = tmp_path / "report"
    report.claim(folder, said.append)
    assert not said
    (folder / report.LOGS / "old.log").touch()
    report.claim(folder, said.append)
    assert said == [f"{folder} holds an earlier report; it is replaced."]
    assert not list((folder / report.LOGS).iterdir())


def test_the_verb_runs_it_and_says_where_it_is(tmp_path, monkeypatch, capsys):
    states = [FINISHED, CRASHED]
    made = [Outcome(PARTS[0], Ending(state, "why", 1.0, ""), Findings()) for state in states]
    asked = []
    monkeypatch.setattr(report, "write_report", lambda *arguments, **options: asked.append(options["parts"]) or made)
    folder = tmp_path / "report"
    arguments = ["benchmark", "--gpu-report", str(folder), "--small", "--device", "cpu"]
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    assert "1 of 2 parts finished" in output
    assert f"\n{folder / report.MARKDOWN}\n" in output
    made[:] = made[1:]
    assert cli.main([*arguments, "--parts", "estimate"]) == 1
    assert [len(parts) for parts in asked] == [len(PARTS), 2]
