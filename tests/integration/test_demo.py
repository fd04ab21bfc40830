"""The demo with nnU-Net's real commands: minutes of training on a CPU."""

import json

import matplotlib.image
import pytest

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.cli import demo
from nnunetv2_tpmamba.demo.phantom import write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run_demo(*arguments):
    return cli.main(["demo", *map(str, arguments)])


def test_the_real_demo_segments_unseen_phantoms(tmp_path):
    assert run_demo("--out", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "predictions" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == demo.PHANTOM_UNSEEN
    assert summary["foreground_mean"]["Dice"] >= 0.8


def test_the_real_commands_work_on_two_cases_of_a_users_folder(tmp_path, capsys):
    write_dataset(tmp_path / "my CTs", num_training=2, num_test=0)
    assert run_demo("--out", tmp_path / "out", "--data", tmp_path / "my CTs", "--epochs", 1) == 0
    assert "Dataset700_myCTs" in capsys.readouterr().out
    assert matplotlib.image.imread(tmp_path / "out" / "demo.png").shape[1] == 1080
