"""What ``doctor`` says of the device, the scan, SAM's file and the training step."""

import re
import shutil
from collections import namedtuple

import pytest
import torch
from support.doctor_output import fails_alone
from support.sam_files import stand_in

from nnunetv2_tpmamba import doctor as checks
from nnunetv2_tpmamba.doctor import Finding
from nnunetv2_tpmamba.doctor.speed import duration
from nnunetv2_tpmamba.networks import tpmamba as network
from nnunetv2_tpmamba.networks.ops.implementations import LOOP, using
from nnunetv2_tpmamba.networks.sam.models import VIT_L


def test_sam_file_is_missing(doctor, monkeypatch):
    monkeypatch.delenv("TPMAMBA_SAM_CHECKPOINT")
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).startswith("SAM file: no SAM ViT-B file was found: TPMAMBA_SAM_CHECKPOINT is not set")
    assert "-> with internet access: nnUNetv2_tpmamba weights\n" in output
    assert "export TPMAMBA_SAM_CHECKPOINT=/path/to/sam_vit_b_01ec64.pth\n" in output
    assert "-> nnUNetTrainerTPMamba_small, _scratch and _demo train without the file" in output


def test_sam_file_is_truncated(doctor, monkeypatch, sam_file, tmp_path):
    with sam_file.open("rb") as file:
        (tmp_path / "short.pth").write_bytes(file.read(100_000))
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tmp_path / "short.pth"))
    status, output = doctor()
    assert status == 1
    assert re.match(r"SAM file: .*short\.pth \(100000 bytes\) is truncated or damaged", fails_alone(output))


def test_a_larger_sam_is_noted_with_its_trainer(monkeypatch, tmp_path):
    torch.save(stand_in(VIT_L), tmp_path / "sam.pth")
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tmp_path / "sam.pth"))
    finding = checks.check_sam()
    assert finding.state == "note"
    assert re.search(r"sam\.pth, unknown SAM ViT-L, SHA-256 \w{64}; all 339 tensors", finding.text)
    assert finding.advice == ("train it with -tr nnUNetTrainerTPMamba_vitl; other trainers need SAM ViT-B",)


def test_scan_is_wrong(doctor):
    broken = LOOP._replace(forward=lambda *inputs: (2 * inputs[0], LOOP.forward(*inputs)[1]))
    with using(lambda chosen: broken):
        status, output = doctor()
    assert status == 1
    assert fails_alone(output).endswith("does not work: its result differs from the reference")
    assert "-> pip install --force-reinstall torch" in output


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (
            "mamba-ssm not used: it is not installed",
            ["reference; mamba-ssm not used: it is not installed\n      -> mamba-ssm is optional"],
        ),
        (
            "numba not used: ImportError: broken",
            ["numba not used: ImportError: broken\n      -> pip install --force-reinstall numba\n"],
        ),
        (
            "Triton not used: RuntimeError: no gcc; mamba-ssm not used: absent",
            [
                "mamba-ssm not used: absent\n      -> Triton comes with torch on Linux and needs gcc; install gcc",
                "      -> mamba-ssm is optional",
            ],
        ),
    ],
)
def test_why_a_faster_scan_is_not_used_is_noted(doctor, note, said):
    with using(lambda chosen: LOOP._replace(note=note)):
        status, output = doctor()
    assert status == 0
    for text in said:
        assert text in output


def test_training_step_is_not_finite(doctor, monkeypatch):
    forward = network.TPMamba.forward
    monkeypatch.setattr(network.TPMamba, "forward", lambda self, volume: forward(self, volume) * float("nan"))
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).startswith("training step: the loss (nan) or the step after it is not finite")


def test_cpu_says_what_it_means_for_speed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = checks.check_device()
    assert finding.state == "note"
    said = re.match(
        r"no GPU: one forward of the full-size network on a 96 mm cube takes about (\d+) s here "
        r"\((?:float32|bfloat16), \d+ threads\), so the 216 cubes of a CT of 300 mm on a side take",
        finding.text,
    )
    assert int(said[1]) > 0
    assert any("nnUNetTrainerTPMamba_demo" in advice for advice in finding.advice)


@pytest.mark.parametrize(
    ("seconds", "said"), [(40, "40 seconds"), (7199, "120 minutes"), (7200, "2 hours"), (86400, "24 hours")]
)
def test_durations_are_in_the_unit_that_people_plan_in(seconds, said):
    assert duration(seconds) == said


def test_driver_without_usable_gpu_is_noted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    assert re.match("there is an NVIDIA driver, but .* finds no GPU", checks.check_device().advice[2])


@pytest.fixture
def pretended_gpu(monkeypatch):
    gpu = namedtuple("gpu", "name total_memory")("Test GPU", 24 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    eye = torch.eye
    monkeypatch.setattr(torch, "eye", lambda n, device: eye(n).half())


def test_gpu_is_named(pretended_gpu, monkeypatch):
    monkeypatch.setenv("CC", "cc")
    assert checks.check_device() == Finding("ok", "GPU Test GPU, 24 GiB, fp16 autocast works")


def test_gpu_that_torch_cannot_use(pretended_gpu, monkeypatch):
    def eye(n, device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ...")

    monkeypatch.setattr(torch, "eye", eye)
    finding = checks.check_device()
    assert finding.state == "FAIL"
    assert finding.text.endswith(
        "GPU, 24 GiB: RuntimeError: CUDA error: no kernel image is available for execution on the device"
    )
    assert "pytorch.org/get-started" in finding.advice[0]


def test_gpu_without_a_compiler(pretended_gpu, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("nnUNet_compile", raising=False)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    finding = checks.check_device()
    assert finding.state == "FAIL"
    assert "no C compiler for torch.compile" in finding.text
    monkeypatch.setenv("nnUNet_compile", "f")
    assert checks.check_device().state == "ok"


@pytest.mark.gpu
def test_gpu_is_used():
    assert checks.check_device().state == "ok"
    assert "on cuda" in checks.check_scan().text
    assert checks.check_step() == Finding(
        "ok", "training step: a tiny network's forward, backward and AdamW step work on cuda"
    )
