"""Exported models: an installed model is the one that was exported, and only a whole and matching file is installed."""

import json
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from support.configs import TINY
from support.disks import small_disk

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.files import sha256_of_tensors
from nnunetv2_tpmamba.trained import exported_file, exported_model
from nnunetv2_tpmamba.trained.exported_file import (
    CHECKSUM,
    TEXT,
    install_exported_model,
    read_exported_model,
    write_exported_model,
)
from nnunetv2_tpmamba.trainers.baselines import nnUNetTrainerTestbed_nnUNet
from nnunetv2_tpmamba.trainers.sam_rows import nnUNetTrainerTestbed_MASAM, nnUNetTrainerTestbed_SAMed
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

PLANS = {
    "dataset_name": "Dataset901_Blobs",
    "plans_name": "nnUNetPlans",
    "label_manager": "LabelManager",
    "image_reader_writer": "SimpleITKIOWithReorient",
    "configurations": {"3d_fullres": {"architecture": {}, "patch_size": [32, 32, 32]}},
}
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "blob": 1}, "file_ending": ".nii.gz"}
MODEL = "nnUNetTrainerTPMamba_tiny__nnUNetPlans__3d_fullres"


MEDSAM = {"name": "MedSAM ViT-B", "licence": "Apache-2.0", "sha256": 64 * "0"}


def tiny_trainer(config, row=nnUNetTrainerTPMamba):
    return type("nnUNetTrainerTPMamba_tiny", (row,), {"config": config})


ROWS = {
    "TP-Mamba": tiny_trainer(TINY),
    "SAMed": tiny_trainer(replace(TINY, adapter="none"), nnUNetTrainerTestbed_SAMed),
    "MA-SAM": tiny_trainer(replace(TINY, adapter="convolution"), nnUNetTrainerTestbed_MASAM),
}
every_row = pytest.mark.parametrize("trained", ROWS, indirect=True)


@pytest.fixture
def trained(request, tmp_path, monkeypatch):
    """Two folds of a tiny model, as nnU-Net leaves them, and the weights that stand for SAM's."""
    trainer = ROWS[getattr(request, "param", "TP-Mamba")]
    monkeypatch.setattr(exported_model, "recursive_find_trainer_class_by_name", lambda name: trainer)
    sam = TPMamba(1, 2, replace(TINY, lora_rank=0)).encoder.state_dict()
    model = tmp_path / "results" / PLANS["dataset_name"] / MODEL
    networks = {}
    for fold in ("0", "1"):
        network = networks[fold] = trainer.build_network(1, 2, (32, 32, 32))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter)
        network.load_sam(sam)
        (model / f"fold_{fold}").mkdir(parents=True)
        checkpoint = {
            "network_weights": network.state_dict(),
            "trainer_name": "nnUNetTrainerTPMamba_tiny",
            "init_args": {"configuration": "3d_fullres", "device": torch.device("cpu")},
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(checkpoint, model / f"fold_{fold}" / "checkpoint_final.pth")
    (model / "plans.json").write_text(json.dumps(PLANS))
    (model / "dataset.json").write_text(json.dumps(DATASET))
    return SimpleNamespace(model=model, sam=sam, networks=networks, file=tmp_path / "model.safetensors")


@pytest.fixture
def exported(trained):
    write_exported_model(trained.model, ["0", "1"], "checkpoint_final.pth", trained.file)
    return trained


@every_row
def test_comes_back_bit_for_bit(exported, tmp_path):
    model = install_exported_model(exported.file, exported.sam, tmp_path / "elsewhere")
    assert model.relative_to(tmp_path / "elsewhere") == exported.model.relative_to(tmp_path / "results")
    for fold, network in exported.networks.items():
        checkpoint = torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=True)
        weights = network.state_dict()
        assert checkpoint["network_weights"].keys() == weights.keys()
        assert all(torch.equal(checkpoint["network_weights"][name], weights[name]) for name in weights)
        assert tuple(checkpoint["inference_allowed_mirroring_axes"]) == (0, 1, 2)
        assert checkpoint["trainer_name"] == "nnUNetTrainerTPMamba_tiny"
    assert json.loads((model / "plans.json").read_text()) == PLANS
    assert json.loads((model / "dataset.json").read_text()) == DATASET


@every_row
def test_holds_no_weight_of_sams_and_none_twice(exported):
    _, folds = read_exported_model(exported.file)
    for fold, tensors in folds.items():
        network = exported.networks[fold]
        trained = {name for name, x in network.named_parameters() if x.requires_grad}
        assert tensors.keys() == trained
        assert sha256_of_tensors(tensors) != sha256_of_tensors(folds["1" if fold == "0" else "0"])


def test_the_sha256_is_that_of_the_sam_file(exported):
    description, _ = read_exported_model(exported.file)
    assert description.sam == sha256_of_tensors(exported.sam)


def test_refuses_another_sam(exported, tmp_path):
    other = {**exported.sam, "pos_embed": exported.sam["pos_embed"] + 1e-6}
    digests = [sha256_of_tensors(exported.sam), sha256_of_tensors(other)]
    message = (
        f"other SAM weights: {{}}, whose SHA-256 is {digests[0]}, while that of {{}} is {digests[1]}; set TPMAMBA_SAM"
    )
    with pytest.raises(ValueError, match=message.format("unknown ones", "the SAM file given")):
        install_exported_model(exported.file, other, tmp_path / "elsewhere")

    for fold in (0, 1):
        edit_checkpoint(exported, fold, lambda x: x["init_args"].update(encoder=MEDSAM))
    write_exported_model(exported.model, ["0", "1"], "checkpoint_final.pth", exported.file)
    with pytest.raises(ValueError, match=message.format("MedSAM ViT-B", "sam.pth, which is Meta SAM ViT-B,")):
        install_exported_model(exported.file, other, tmp_path / "elsewhere", "sam.pth, which is Meta SAM ViT-B,")
    assert not (tmp_path / "elsewhere").exists()


def test_the_name_of_the_encoder_comes_back_and_need_not_be_there(exported, tmp_path):
    """One fold was trained before encoders were named."""
    edit_checkpoint(exported, 0, lambda x: x["init_args"].update(encoder=MEDSAM))
    write_exported_model(exported.model, ["0", "1"], "checkpoint_final.pth", exported.file)
    model = install_exported_model(exported.file, exported.sam, tmp_path / "elsewhere")
    said = torch.load(model / "fold_1" / "checkpoint_final.pth", weights_only=True)["init_args"]
    assert said == {"configuration": "3d_fullres", "fold": "1", "encoder": MEDSAM}


def test_refuses_an_encoder_that_is_not_described_by_texts(exported):
    edit_checkpoint(exported, 0, lambda x: x["init_args"].update(encoder={"name": ["MedSAM"]}))
    with pytest.raises(ValueError, match=r"its encoder .* is not described by texts"):
        write_exported_model(exported.model, ["0"], "checkpoint_final.pth", exported.file)


def test_never_overwrites_a_model(exported):
    with pytest.raises(FileExistsError, match="move it away"):
        install_exported_model(exported.file, exported.sam, exported.model.parents[1])


def test_an_interrupted_installation_leaves_nothing(exported, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exported_file.torch, "save", full)
    with pytest.raises(OSError, match=r"could not be written .*No space left.* MB are free there; nothing is left"):
        install_exported_model(exported.file, exported.sam, tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere" / PLANS["dataset_name"]).iterdir()) == []


def test_a_full_disk_is_told_and_holds_nothing_half_written(exported, tmp_path):
    size = exported.file.stat().st_size
    with small_disk(tmp_path / "disk", size // 2) as disk:
        with pytest.raises(
            OSError, match=r"could not be written \(.*No space left.*MB are free there; nothing is left"
        ):
            write_exported_model(exported.model, ["0", "1"], "checkpoint_final.pth", disk / "model.safetensors")
        with pytest.raises(OSError, match=r"could not be written \(.+\); \d MB are free there; nothing is left"):
            install_exported_model(exported.file, exported.sam, disk)
        assert not [path for path in disk.rglob("*") if path.is_file()]


def test_refuses_a_model_that_trains_all(trained, monkeypatch):
    scratch = tiny_trainer(replace(TINY, pretrained=False))
    monkeypatch.setattr(exported_model, "recursive_find_trainer_class_by_name", lambda name: scratch)
    with pytest.raises(ValueError, match="nnUNetv2_export_model_to_zip"):
        write_exported_model(trained.model, ["0"], "checkpoint_final.pth", trained.file)
    assert not trained.file.exists()


def edit_checkpoint(trained, fold, change):
    path = trained.model / f"fold_{fold}" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x["network_weights"].pop("encoder.pos_embed"), "holds other tensors than its network has now"),
        (lambda x: x["network_weights"].update({"encoder.pos_embed": torch.ones(1)}), "holds other tensors"),
        (lambda x: x["network_weights"].update(another=torch.ones(1)), "holds other tensors"),
        (lambda x: x.pop("trainer_name"), "does not say of which trainer"),
        (lambda x: x.pop("init_args"), "does not say of which trainer"),
        (lambda x: x["init_args"].update(configuration="3d@fullres"), r"'3d@fullres' is no name of nnU-Net's"),
    ],
)
def test_exports_nothing_that_could_not_be_installed(trained, change, message):
    edit_checkpoint(trained, 1, change)
    with pytest.raises(ValueError, match=message):
        write_exported_model(trained.model, ["0", "1"], "checkpoint_final.pth", trained.file)
    assert not trained.file.exists()


def test_others_may_read_what_is_written(trained, tmp_path):
    former = os.umask(0o002)
    try:
        write_exported_model(trained.model, ["0"], "checkpoint_final.pth", trained.file)
        model = install_exported_model(trained.file, trained.sam, tmp_path / "elsewhere")
    finally:
        os.umask(former)
    assert trained.file.stat().st_mode & 0o777 == 0o664
    for path in (model, *model.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o775 if path.is_dir() else 0o664), path


def test_what_a_killed_installation_left_is_removed(exported, tmp_path):
    left = tmp_path / "elsewhere" / PLANS["dataset_name"] / f".unfinished-{MODEL}-xyz" / MODEL
    left.mkdir(parents=True)
    (left / "plans.json").write_text("half")
    model = install_exported_model(exported.file, exported.sam, tmp_path / "elsewhere")
    assert list(model.parent.iterdir()) == [model]


def test_refuses_folds_of_different_sams(trained):
    edit_checkpoint(trained, 1, lambda x: x["network_weights"]["encoder.pos_embed"].add_(1))
    with pytest.raises(ValueError, match="do not share one SAM file"):
        write_exported_model(trained.model, ["0", "1"], "checkpoint_final.pth", trained.file)


def test_names_a_missing_checkpoint(trained):
    with pytest.raises(ValueError, match=r"checkpoint_best\.pth does not exist; finish this training"):
        write_exported_model(trained.model, ["0"], "checkpoint_best.pth", trained.file)


def test_says_what_to_do_about_a_trainer_that_is_not_found(exported, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    with pytest.raises(ValueError, match="export nnUNet_extTrainer="):
        install_exported_model(exported.file, exported.sam, tmp_path / "elsewhere")


def rewrite(file, change):
    """Change the header's text, with a right checksum: what damage does not do, but an attacker can."""
    with safetensors.safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()[TEXT])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    change(header, tensors)
    text = json.dumps(header)
    safetensors.torch.save_file(tensors, file, {TEXT: text, CHECKSUM: sha256_of_tensors(tensors, text)})


ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "nonlin": "subprocess.check_call",
    },
    "_kw_requires_import": ["conv_op", "nonlin"],
}
"""A network of nnU-Net's; nnU-Net looks up and calls the function named under ``nonlin``."""


@pytest.mark.parametrize("trainer", [nnUNetTrainer, nnUNetTrainerTestbed_nnUNet])
class TestTrainersThatBuildWhatPlansName:
    """Trainers without SAM, nnU-Net's and the testbed's, whose networks the plans describe."""

    def test_are_not_exported(self, trained, trainer, monkeypatch):
        self.let_be_found(trainer, monkeypatch)
        edit_checkpoint(trained, 0, lambda checkpoint: checkpoint.update(trainer_name=trainer.__name__))
        with pytest.raises(ValueError, match=f"^{trainer.__name__} is no trainer of .* SAM; use nnUNetv2_export_model"):
            write_exported_model(trained.model, ["0"], "checkpoint_final.pth", trained.file)
        assert not trained.file.exists()

    def test_are_not_installed_so_nothing_that_plans_name_is_run(self, exported, trainer, tmp_path, monkeypatch):
        """The file's SAM weights are the right ones, and SAM's are public, so only the trainer stops the attack."""
        self.let_be_found(trainer, monkeypatch)
        ran = tmp_path / "ran"
        architecture = json.loads(json.dumps(ARCHITECTURE))
        architecture["arch_kwargs"]["nonlin_kwargs"] = {"args": [sys.executable, "-c", f"open({str(ran)!r}, 'w')"]}

        def change(header, tensors):
            header["trainer"] = trainer.__name__
            header["plans"]["configurations"]["3d_fullres"]["architecture"] = architecture

        rewrite(exported.file, change)
        with pytest.raises(ValueError, match=f"^{trainer.__name__} is no trainer of a network with SAM"):
            install_exported_model(exported.file, exported.sam, tmp_path / "elsewhere")
        assert not ran.exists()
        assert not (tmp_path / "elsewhere").exists()
        settings = ConfigurationManager({"patch_size": [16, 16, 16], "architecture": architecture})
        with pytest.raises(TypeError, match="not a Module subclass"):  # the trainer itself does run it
            trainer.build_network_architecture(PlansManager({}), settings, 1, 2, False)
        assert ran.exists()

    def let_be_found(self, trainer, monkeypatch):
        """Take the place of the tiny trainer, which the fixtures let nnU-Net find under every name."""
        monkeypatch.setattr(exported_model, "recursive_find_trainer_class_by_name", lambda name: trainer)


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", "", "a\\b"])
@pytest.mark.parametrize("entry", ["trainer", "configuration", "checkpoint", "dataset_name", "plans_name", "fold"])
def test_refuses_names_that_lead_elsewhere(exported, name, entry):
    def change(header, tensors):
        if entry == "fold":
            for key in list(tensors):
                tensors[f"{name}/{key}"] = tensors.pop(key)
        elif entry in ("dataset_name", "plans_name"):
            header["plans"][entry] = name
        else:
            header[entry] = name

    rewrite(exported.file, change)
    with pytest.raises(ValueError, match=r"is refused: .* no name of nnU-Net's"):
        read_exported_model(exported.file)


def test_refuses_tensors_that_do_not_fit(exported, tmp_path):
    rewrite(exported.file, lambda header, tensors: tensors.pop(min(tensors)))
    with pytest.raises(ValueError, match="fold 0 has other tensors"):
        install_exported_model(exported.file, exported.sam, tmp_path / "elsewhere")


@pytest.mark.parametrize("where", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_notices_one_flipped_bit(exported, where):
    content = bytearray(exported.file.read_bytes())
    content[int(where * len(content))] ^= 1
    exported.file.write_bytes(content)
    with pytest.raises(ValueError, match=r"is no file of .*, or damaged"):
        read_exported_model(exported.file)


def test_names_a_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="nnUNetv2_tpmamba export"):
        read_exported_model(tmp_path / "absent.safetensors")
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is no file of `nnUNetv2_tpmamba export`"):
        read_exported_model(tmp_path / "other.safetensors")
