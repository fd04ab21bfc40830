"""``docs/rows.md`` is what the command writes, and has every row of the paper's tables."""

import json
import re

import pytest
from support.nnunet import REPOSITORY

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.benchmark import rows_page
from nnunetv2_tpmamba.benchmark.rows import FORWARD, INPUT_CHANNELS, NUM_CLASSES, STEP, Counts, count
from nnunetv2_tpmamba.benchmark.rows_page import Measured, as_page
from nnunetv2_tpmamba.trainers import catalogue
from nnunetv2_tpmamba.trainers.baselines import nnUNetTrainerTestbed_nnUNet

PAGE = (REPOSITORY / "docs" / "rows.md").read_text(encoding="utf-8")
AGAIN = "write the page again: nnUNetv2_tpmamba trainers --markdown [--measured rows.json ...] > docs/rows.md"
MEASURED_ON = re.compile(r"^Seconds per iteration were measured on:\n\n(?:- .*\n)+\n", re.MULTILINE)
ROW = "nnUNetTrainerTestbed_nnUNet"
ABOUT = {
    "date": "2026-11-25 12:00 UTC",
    "device": "cpu",
    "precision": "float32",
    "processor": "a processor, 2 cores, 2 threads",
    "sizes": "full",
}


def without(text, *columns):
    """The page without what was measured, and with empty cells in these columns."""
    lines, empty = [], []
    for line in MEASURED_ON.sub("", text).splitlines():
        cells = line.split(" | ") if line.startswith("| ") else []
        if "trainer" in cells:
            empty = [i for i, cell in enumerate(cells) if cell in columns]
        elif not cells:
            empty = []
        elif cells[1:] and not set(line) <= set("|- "):
            cells = ["" if i in empty else cell for i, cell in enumerate(cells)]
        lines.append(" | ".join(cells) or line)
    return lines


def cells_of(name, text):
    (line,) = re.findall(rf"^\| (.* \| `{name}` \| .*) \|$", text, re.MULTILINE)
    return line.split(" | ")


@pytest.fixture(scope="module")
def sizes():
    """The counts of all rows, of which only those of parameters are right."""
    facts = {name: catalogue.describe(row, INPUT_CHANNELS, NUM_CLASSES) for name, row in catalogue.rows().items()}
    return {name: Counts(each.parameters, each.trained, 0, 0) for name, each in facts.items()}


def test_the_page_is_what_the_command_writes(sizes):
    columns = ("GMAC", "memory, GB", "s, CPU", "s, GPU")
    assert without(PAGE, *columns) == without(as_page(sizes, []), *columns), AGAIN


@pytest.mark.slow
def test_operations_and_memory_on_the_page_are_those_counted():
    counts = {name: count(trainer) for name, trainer in catalogue.rows().items()}
    assert without(PAGE, "s, CPU", "s, GPU") == without(as_page(counts, []), "s, CPU", "s, GPU"), AGAIN


PRINTED = {  # mean Dice by the number of training cases, 24, 6 and 3 in table 1, 6 in the others
    "Table 1": """
        82.5 68.8 46.8, 80.0 47.6 15.5, 77.5 45.6 20.8, 81.0 45.1 19.2, 82.3 69.5 52.3, 81.8 70.7 53.2,
        83.1 71.9 53.5, 81.9 68.6 50.0, 82.2 74.6 55.7, 82.4 76.5 59.0, 84.8 79.7 65.8""",
    "Table 2": "75.1, 78.9, 75.9, 79.0",
    "Table 3": "73.9, 74.4, 76.5, 78.7",
    "Table 4": "78.3, 78.0, 78.9, 78.9",
}


@pytest.mark.parametrize("table", PRINTED)
def test_every_row_of_the_papers_tables_is_there(table):
    section = PAGE.partition(f"## {table}\n")[2].partition("\n## ")[0]
    printed = [" | ".join(row.split()) for row in PRINTED[table].split(",")]
    assert not [row for row in printed if section.count(f" | {row} |") < printed.count(row)]


def result(tmp_path, name, rows, **about):
    file = tmp_path / name
    file.write_text(json.dumps({"about": ABOUT | about, "complete": True, "rows": rows}))
    return file


def row(seconds=None, error="", task=ROW, name=STEP, part="rows"):
    return {"part": part, "task": task, "name": name, "seconds": seconds, "error": error}


def test_measured_seconds_come_from_the_benchmarks_files(tmp_path, sizes):
    files = [
        result(tmp_path, "old.json", [row(name=FORWARD), row(9.87)]),
        result(tmp_path, "cpu.json", [row(8.4712), row(error="ImportError: no MONAI", task="Other", name="all")]),
        result(tmp_path, "gpu.json", [row(0.123)], device="A GPU", precision="fp16 autocast"),
    ]
    page = as_page(sizes, [Measured.read(file) for file in files])
    assert cells_of(ROW, page)[6:8] == ["8.47", "0.123"]
    assert "- a processor, 2 cores, 2 threads, float32, 2026-11-25 12:00 UTC. Not measured: Other: Imp" in page
    assert "- A GPU, fp16 autocast, 2026-11-25 12:00 UTC\n" in page
    assert without(page, "s, CPU", "s, GPU") == without(as_page(sizes, []), "s, CPU", "s, GPU")
    assert cells_of(ROW, as_page(sizes, []))[6:8] == ["not measured"] * 2


@pytest.mark.parametrize(
    ("rows", "about", "message"),
    [
        ([row(part="scan")], {}, "has no rows of the paper's tables; make it with nnUNetv2_tpmamba benchmark --only"),
        ([row(1.0)], {"sizes": "TINY (--small)"}, "was measured with --small, so its times mean nothing"),
        ([{"part": "rows"}], {}, "is not what nnUNetv2_tpmamba benchmark --only rows --json FILE writes"),
    ],
)
def test_a_file_that_says_nothing_of_rows_is_refused(tmp_path, rows, about, message, capsys):
    file = result(tmp_path, "a.json", rows, **about)
    assert cli.main(["trainers", "--markdown", "--measured", str(file)]) == 1
    assert message in capsys.readouterr().err
    file.write_text("no JSON")
    with pytest.raises(ValueError, match="is not what nnUNetv2_tpmamba benchmark"):
        Measured.read(file)


def test_the_command_prints_the_page_and_counts_each_row(monkeypatch, capsys, sizes):
    monkeypatch.setattr(rows_page, "count", lambda trainer: sizes[trainer.__name__])
    assert cli.main(["trainers", "--markdown"]) == 0
    assert capsys.readouterr().out == as_page(sizes, [])


def test_without_a_package_that_a_row_needs_there_is_no_page(monkeypatch, capsys):
    def missing():
        raise ImportError("this network is MONAI's, which is not installed: pip install monai")

    monkeypatch.setattr(catalogue, "rows", lambda: {ROW: nnUNetTrainerTestbed_nnUNet})
    monkeypatch.setattr(nnUNetTrainerTestbed_nnUNet, "check_installed", missing)
    assert cli.main(["trainers", "--markdown"]) == 1
    assert f"{ROW} cannot be counted: this network is MONAI's" in capsys.readouterr().err


def test_what_was_measured_is_for_the_page(capsys):
    assert cli.main(["trainers", "--measured", "a.json"]) == 1
    assert "--measured is for the page; add --markdown" in capsys.readouterr().err
