"""The verb ``weights``: what it prints, and how it fails."""

import hashlib
import re
import subprocess
import sys

import pytest
import torch
from support.sam_files import stand_in
from support.sam_sources import answer_with, cut_network, empty_caches

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.files import sha256
from nnunetv2_tpmamba.networks.sam.known import PUBLISHED, Published
from nnunetv2_tpmamba.networks.sam.models import VIT_L


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Run the command alone, with empty caches."""
    empty_caches(monkeypatch, tmp_path)
    monkeypatch.setattr(cli, "VERBS", ("weights",))
    return cli.main


def test_command_tells_where_the_file_is(main, monkeypatch, tiny_checkpoint, capsys):
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tiny_checkpoint))

    assert main(["weights"]) == 0

    out = capsys.readouterr().out
    assert str(tiny_checkpoint) in out
    assert f"{tiny_checkpoint.stat().st_size} bytes" in out
    assert hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest() in out
    assert "name:   unknown SAM ViT-B\n" in out
    assert "export" not in out


def test_command_downloads_into_a_folder_and_says_what_to_export(main, monkeypatch, tiny_checkpoint, tmp_path, capsys):
    answer_with(monkeypatch, tiny_checkpoint)
    monkeypatch.chdir(tmp_path)

    assert main(["weights", "--to", "my weights"]) == 0

    path = tmp_path / "my weights" / "sam_vit_b_01ec64.pth"
    assert f"export TPMAMBA_SAM_CHECKPOINT='{path}'" in capsys.readouterr().out
    assert path.is_file()


def test_command_knows_the_size_of_a_file_and_checks_the_size_that_is_asked_for(main, monkeypatch, tmp_path, capsys):
    torch.save({"model_state": {f"sam.{name}": x for name, x in stand_in(VIT_L).items()}}, tmp_path / "sam.pth")
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tmp_path / "sam.pth"))

    assert main(["weights"]) == 0
    out = capsys.readouterr().out
    assert "check:  SAM ViT-L, all 339 tensors of the image encoder are there and finite\n" in out
    assert "for:    -tr nnUNetTrainerTPMamba_vitl\n" in out

    assert main(["weights", "--model", "vit_h"]) == 1
    assert re.search(
        r"is SAM ViT-L, which .*; a SAM ViT-H file is needed: run .*--model vit_h", capsys.readouterr().err
    )


def test_command_downloads_the_size_that_is_asked_for(main, monkeypatch, tmp_path, capsys):
    torch.save(stand_in(VIT_L), tmp_path / "sam.pth")
    answer_with(monkeypatch, tmp_path / "sam.pth", VIT_L)

    assert main(["weights", "--model", "vit_l", "--to", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "sam_vit_l_0b3195.pth").is_file()
    assert "name:   unknown SAM ViT-L\n" in capsys.readouterr().out


def test_command_names_published_weights_and_their_licence(main, monkeypatch, tiny_checkpoint, capsys):
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tiny_checkpoint))
    monkeypatch.setitem(PUBLISHED, sha256(tiny_checkpoint), Published("MedSAM ViT-B", "Apache-2.0", ""))

    assert main(["weights"]) == 0
    assert "name:   MedSAM ViT-B, Apache-2.0\n" in capsys.readouterr().out


def test_command_fails_in_one_line_on_stderr(main, monkeypatch, capsys):
    cut_network(monkeypatch)
    assert main(["weights"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nnUNetv2_tpmamba weights: no SAM ViT-B file was found")
    assert err.count("\n") == 1


def test_command_refuses_a_damaged_file(main, monkeypatch, tmp_path, capsys):
    (tmp_path / "sam.pth").write_text("404 not found")
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tmp_path / "sam.pth"))

    assert main(["weights"]) == 1
    assert "is no checkpoint" in capsys.readouterr().err


def test_command_has_help():
    program = "from nnunetv2_tpmamba import cli; cli.VERBS = ('weights',); cli.main(['weights', '-h'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)

    assert result.returncode == 0
    assert "TPMAMBA_SAM_CHECKPOINT" in result.stdout
    assert "--to DIR" in result.stdout
