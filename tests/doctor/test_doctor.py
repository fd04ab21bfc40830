"""The verb ``doctor`` as a whole: all checks run, whatever is broken."""

import os
import re

import torch
from support.doctor_output import in_state
from support.nnunet import PLUGIN

from nnunetv2_tpmamba.doctor import CHECKS


def test_all_is_well(healthy):
    result = healthy.run("nnUNetv2_tpmamba", "doctor", check=False, **os.environ)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(in_state("(?:ok|note)", result.stdout)) == len(CHECKS)
    for part in (
        rf"python \d\S+, nnunetv2_tpmamba \d\S+, torch {re.escape(torch.__version__)}, torchvision .*, nnunetv2 2",
        f"nnU-Net finds nnUNetTrainerTPMamba in {re.escape(str(PLUGIN))}",
        f"nnUNet_results={re.escape(str(healthy.results))}",
        r"selective scan: \S.* on (cpu|cuda); its output and gradients agree with the reference",
        r"SAM file: .*sam\.pth, unknown SAM ViT-B, SHA-256 \w{64}; all \d+ tensors .* finite",
        r"training step: .* work on (cpu|cuda)",
        "only ones you trust",
    ):
        assert re.search(part, result.stdout), part
    assert result.stdout.endswith("\nTraining can start.\n")


def test_without_torch_there_is_no_traceback(healthy, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: cannot open shared object file')")
    result = healthy.run("nnUNetv2_tpmamba", "doctor", check=False, **{**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stderr) == (1, "")
    assert "FAIL  torch 2" in result.stdout
    assert "cannot be imported: ImportError: libtorch_cpu.so: cannot open shared object file\n" in result.stdout
    assert f"ok    nnUNet_raw={healthy.raw}\n" in result.stdout
    assert len(in_state("(?:ok|note|FAIL)", result.stdout)) == len(CHECKS)
