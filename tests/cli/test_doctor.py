"""What ``doctor`` says when all is well, and when exactly one thing is wrong."""

import os
import re
import shutil
import sys
import tempfile
from collections import namedtuple
from importlib import metadata

import pytest
import torch
from support.nnunet import PLUGIN, REPOSITORY
from support.sam_files import write_meta_checkpoint

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba import doctor as diagnosis
from nnunetv2_tpmamba.doctor import CHECKS, Finding
from nnunetv2_tpmamba.networks import tpmamba as network
from nnunetv2_tpmamba.networks.ops import implementations

EXPORT = "-> export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)"


@pytest.fixture(scope="session")
def sam_file(tmp_path_factory):
    path = write_meta_checkpoint(tmp_path_factory.mktemp("sam") / "sam.pth")
    yield path
    path.unlink()  # 375 MB, and pytest keeps the folders of three runs


@pytest.fixture
def healthy(nnunet, sam_file, tmp_path, monkeypatch):
    """An environment in which training can start, without a network and with empty caches."""
    variables = {
        **{name: value for name, value in nnunet.environment.items() if name.startswith("nnUNet_")},
        "nnUNet_extTrainer": str(PLUGIN),
        "TPMAMBA_SAM_CHECKPOINT": str(sam_file),
        "TORCH_HOME": str(tmp_path / "torch"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))  # read at import
    return nnunet


@pytest.fixture
def doctor(healthy, capsys):
    def run():
        status = cli.main(["doctor"])
        output = capsys.readouterr()
        assert output.err == ""
        return status, output.out

    return run


def in_state(state, output):
    return re.findall(rf"^{state} +(.*)", output, re.MULTILINE)


def fails_alone(output):
    """The text of the one check that failed, after making sure that all others ran and did not."""
    failed = in_state("FAIL", output)
    assert len(failed) == 1, output
    assert len(in_state("(?:ok|note)", output)) == len(CHECKS) - 1
    assert f"1 of {len(CHECKS)} checks failed." in output
    return failed[0]


def test_all_is_well(healthy):
    result = healthy.run("nnUNetv2_tpmamba", "doctor", check=False, **os.environ)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(in_state("(?:ok|note)", result.stdout)) == len(CHECKS)
    for part in (
        rf"python \d\S+, nnunetv2_tpmamba \d\S+, torch {re.escape(torch.__version__)}, torchvision .*, nnunetv2 2",
        f"nnU-Net finds nnUNetTrainerTPMamba in {re.escape(str(PLUGIN))}",
        f"nnUNet_results={re.escape(str(healthy.results))}",
        r"selective scan: \S.* on (cpu|cuda); its output and gradients agree with the reference",
        r"SAM file: .*sam\.pth, all \d+ tensors .* finite",
        r"training step: .* work on (cpu|cuda)",
        "only ones you trust",
    ):
        assert re.search(part, result.stdout), part
    assert result.stdout.endswith("\nTraining can start.\n")


def test_our_folder_may_be_one_of_several(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(PLUGIN), str(REPOSITORY)]))
    assert doctor()[0] == 0


def test_a_missing_folder_beside_ours_is_noted(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path / "gone"), str(PLUGIN)]))
    status, output = doctor()
    assert status == 0
    assert f"{tmp_path / 'gone'} in nnUNet_extTrainer does not exist\n      {EXPORT}\n" in output


def test_search_path_is_unset(doctor, monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer")
    status, output = doctor()
    assert status == 1
    assert fails_alone(output) == "nnUNet_extTrainer is not set, so nnU-Net does not find the trainers"
    assert f"\n      {EXPORT}\n" in output


# the package, what holds it, and a clone that is not what is installed
@pytest.mark.parametrize("folder", [*PLUGIN.parents[:3], REPOSITORY, REPOSITORY / "nnunetv2_tpmamba"])
def test_search_path_is_above_ours(doctor, monkeypatch, tmp_path, folder):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(folder), str(PLUGIN)]))
    status, output = doctor()
    assert status == 1
    assert re.match(rf"nnUNet_extTrainer names {folder}, .* torch.compile and pickling cannot use", fails_alone(output))
    assert f"\n      {EXPORT}{os.pathsep}{tmp_path}\n" in output


def test_search_path_is_elsewhere(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    status, output = doctor()
    assert status == 1
    assert fails_alone(output) == f"nnU-Net does not find nnUNetTrainerTPMamba: nnUNet_extTrainer is {tmp_path}"
    assert f"\n      {EXPORT}{os.pathsep}{tmp_path}\n" in output


def test_search_path_does_not_exist(doctor, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "/no/such")
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).endswith("nnUNetTrainerTPMamba: /no/such in nnUNet_extTrainer does not exist")
    assert f"\n      {EXPORT}\n" in output


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('usage: setup.py')", "SystemExit: usage: setup.py"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("class nnUNetTrainerTPMamba: pass", "AssertionError: The requested nnunet trainer class must inherit"),
        (
            "from nnunetv2_tpmamba.trainers.testbed import nnUNetTrainerTPMamba as T\n"
            "class nnUNetTrainerTPMamba(T): pass",
            "ValueError: it finds another class of this name, of the module mine",
        ),
    ],
    ids=["exits", "lacks a package", "has another class", "has a subclass of the same name"],
)
def test_a_folder_before_ours_is_in_the_way(doctor, monkeypatch, tmp_path, code, message):
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(PLUGIN)]))
    status, output = doctor()
    assert status == 1
    assert f"nnU-Net does not find nnUNetTrainerTPMamba: {message}" in fails_alone(output)
    assert f"\n      {EXPORT}{os.pathsep}{tmp_path}\n" in output


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
@pytest.mark.parametrize("value", [None, "", "/no/such/folder", __file__])
def test_folder_is_missing(doctor, monkeypatch, variable, value):
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    status, output = doctor()
    assert status == 1
    problem = {"/no/such/folder": "does not exist", __file__: "is a file, not a folder"}.get(value, "is not set")
    assert re.match(rf"{variable}\S* {problem}", fails_alone(output))
    assert f"export {variable}=/" in output


def test_raw_data_are_not_needed_once_preprocessed(doctor, healthy, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    (healthy.preprocessed / "Dataset001_Test" / "nnUNetPlans_3d_fullres_tpmamba").mkdir(parents=True)
    status, output = doctor()
    assert status == 0
    assert "note  nnUNet_raw is not set; nnU-Net needs it; only what is preprocessed" in output


def test_folder_that_nnunet_will_make_is_noted(doctor, healthy, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(healthy.results / "new"))
    status, output = doctor()
    assert status == 0
    assert f"note  nnUNet_results={healthy.results / 'new'} does not exist yet; nnU-Net makes it" in output


def test_folder_is_read_only(doctor, healthy, monkeypatch):
    def temporary_file(dir):
        if dir == healthy.results:  # tests may run as root, whom no permission stops
            raise OSError(30, "Read-only file system")
        return tempfile.SpooledTemporaryFile()

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).endswith(f"{healthy.results} cannot be written to: Read-only file system")
    assert "-> export nnUNet_results=/another/folder" in output


def test_little_space_is_noted(doctor, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 3 * 2**30))
    status, output = doctor()
    assert status == 0
    assert len(re.findall("only 3.0 GiB are free\n      -> make room", output)) == 2


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


def test_scan_is_wrong(doctor, monkeypatch):
    loop = implementations.LOOP
    broken = loop._replace(forward=lambda *inputs: (inputs[0], loop.forward(*inputs)[1]))
    monkeypatch.setattr(implementations, "implementation_for", lambda device: broken)
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
def test_why_a_faster_scan_is_not_used_is_noted(doctor, monkeypatch, note, said):
    noted = implementations.LOOP._replace(note=note)
    monkeypatch.setattr(implementations, "implementation_for", lambda device: noted)
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


def test_version_does_not_fit(doctor, monkeypatch):
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.1" if name == "torch" else installed(name))
    status, output = doctor()
    assert status == 1
    assert fails_alone(output).startswith("torch 2.9.1 is installed, but nnunetv2 needs torch!=2.9.*")
    assert re.search(r"-> pip install 'torch!=2\.9\.\*,>=", output)


def test_nnunet_is_too_old(monkeypatch):
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.6.2" if name == "nnunetv2" else installed(name))
    assert diagnosis.check_versions() == Finding(
        "FAIL",
        "nnunetv2 2.6.2 is installed, but nnunetv2_tpmamba needs nnunetv2>=2.8.1",
        ("pip install 'nnunetv2>=2.8.1'",),
    )


def test_package_is_missing(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert diagnosis.check_versions() == Finding("FAIL", "torch is not installed", ("pip install torch",))


def test_torchvision_of_another_source(doctor, tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    status, output = doctor()
    assert status == 1
    assert re.match(
        r"torchvision \S+ cannot be imported: .* torchvision::nms does not exist \(it must come from the same place",
        fails_alone(output),
    )
    assert "pip install --force-reinstall torch torchvision\n" in output
    assert "--index-url https://download.pytorch.org/whl/cpu\n" in output


def test_without_torch_there_is_no_traceback(healthy, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: cannot open shared object file')")
    result = healthy.run("nnUNetv2_tpmamba", "doctor", check=False, **{**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stderr) == (1, "")
    assert "FAIL  torch 2" in result.stdout
    assert "cannot be imported: ImportError: libtorch_cpu.so: cannot open shared object file\n" in result.stdout
    assert f"ok    nnUNet_raw={healthy.raw}\n" in result.stdout
    assert len(in_state("(?:ok|note|FAIL)", result.stdout)) == len(CHECKS)


def test_cpu_says_what_it_means_for_speed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = diagnosis.check_device()
    assert finding.state == "note"
    assert re.match("no GPU: .* 20 s on 2 CPU cores", finding.text)
    assert any("nnUNetTrainerTPMamba_demo" in advice for advice in finding.advice)


def test_driver_without_usable_gpu_is_noted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    assert re.match("there is an NVIDIA driver, but .* finds no GPU", diagnosis.check_device().advice[2])


@pytest.fixture
def pretended_gpu(monkeypatch):
    gpu = namedtuple("gpu", "name total_memory")("Test GPU", 24 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    eye = torch.eye
    monkeypatch.setattr(torch, "eye", lambda n, device: eye(n).half())


def test_gpu_is_named(pretended_gpu, monkeypatch):
    monkeypatch.setenv("CC", "cc")
    assert diagnosis.check_device() == Finding("ok", "GPU Test GPU, 24 GiB, fp16 autocast works")


def test_gpu_that_torch_cannot_use(pretended_gpu, monkeypatch):
    def eye(n, device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ...")

    monkeypatch.setattr(torch, "eye", eye)
    finding = diagnosis.check_device()
    assert finding.state == "FAIL"
    assert finding.text.endswith(
        "GPU, 24 GiB: RuntimeError: CUDA error: no kernel image is available for execution on the device"
    )
    assert "pytorch.org/get-started" in finding.advice[0]


def test_gpu_without_a_compiler(pretended_gpu, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("nnUNet_compile", raising=False)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    finding = diagnosis.check_device()
    assert finding.state == "FAIL"
    assert "no C compiler for torch.compile" in finding.text
    monkeypatch.setenv("nnUNet_compile", "f")
    assert diagnosis.check_device().state == "ok"


@pytest.mark.gpu
def test_gpu_is_used():
    assert diagnosis.check_device().state == "ok"
    assert "on cuda" in diagnosis.check_scan().text
    assert diagnosis.check_step() == Finding(
        "ok", "training step: a tiny network's forward, backward and AdamW step work on cuda"
    )
