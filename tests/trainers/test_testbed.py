"""The trainer in this process, on a tiny data set planned by nnU-Net; the real commands are in test_end_to_end.py."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from filelock import FileLock
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from support.configs import TINY
from support.raw_datasets import write_raw_dataset
from support.sam_files import write_meta_checkpoint

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.data import splits
from nnunetv2_tpmamba.trainers import testbed as trainer
from nnunetv2_tpmamba.trainers import tpmamba as variants
from nnunetv2_tpmamba.trainers.augmentation import ScaledGaussianNoise
from nnunetv2_tpmamba.trainers.testbed import nnUNetTrainerTPMamba

NAME = "Dataset901_Blobs"


class nnUNetTrainerTPMamba_tiny(nnUNetTrainerTPMamba):
    config = replace(
        TINY, patch_size=(8, 16, 16), num_epochs=3, num_iterations_per_epoch=2, num_val_iterations_per_epoch=1
    )


@pytest.fixture(scope="module")
def planned(module_nnunet):
    write_raw_dataset(module_nnunet.raw / NAME, [f"case{i}" for i in range(5)])
    module_nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 901, "-c", "3d_fullres", "-np", 2, "-npfp", 2)
    return module_nnunet


@pytest.fixture
def make(planned, monkeypatch, tmp_path):
    """Make a trainer for the tiny data set, with SAM weights of its own size."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(variable, planned.environment[variable])
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # batches are made in this process
    sam = TPMamba(1, 2, replace(TINY, lora_rank=0)).encoder.state_dict()
    monkeypatch.setattr(trainer, "find_sam_checkpoint", lambda: "sam.pth")
    monkeypatch.setattr(trainer, "read_sam_checkpoint", lambda path: sam)
    folder = planned.preprocessed / NAME

    def make(cls=nnUNetTrainerTPMamba_tiny, configuration="3d_fullres", fold=0, initialized=True):
        plans = json.loads((folder / "nnUNetPlans.json").read_text())
        plans["continue_training"] = False
        dataset_json = json.loads((folder / "dataset.json").read_text())
        made = cls(plans, configuration, fold, dataset_json, torch.device("cpu"))
        if initialized:
            made.initialize()
        return made

    make.sam = sam
    return make


def batch(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    data = torch.rand(1, 1, 8, 16, 16, generator=generator)
    return {"data": data, "target": (data > 0.5).to(torch.int16), "keys": ["case0"]} | changes


def state(network):
    """A copy of the parameters; nnU-Net's bricks list theirs twice in a state dict."""
    return {name: x.detach().clone() for name, x in network.named_parameters()}


def changed_since(before, network):
    return {name for name, x in network.named_parameters() if not torch.equal(x, before[name])}


def test_derives_the_papers_data_from_stock_plans(make):
    made = make(initialized=False)
    settings = made.configuration_manager
    assert settings.spacing == [1.0, 1.0, 1.0]
    assert settings.patch_size == [8, 16, 16]
    assert settings.batch_size == 1
    assert made.plans_manager.transpose_forward == [0, 1, 2]
    assert made.preprocessed_dataset_folder.endswith("nnUNetPlans_3d_fullres_tpmamba")
    assert made.output_folder_base.endswith("nnUNetTrainerTPMamba_tiny__nnUNetPlans__3d_fullres")


def test_stock_plans_file_and_data_are_untouched(planned, make):
    folder = planned.preprocessed / NAME
    watched = [folder / "nnUNetPlans.json", *sorted((folder / "nnUNetPlans_3d_fullres").iterdir())]
    before = [path.read_bytes() for path in watched]
    make()
    assert [path.read_bytes() for path in watched] == before


@pytest.mark.parametrize(("configuration", "message"), [("2d", "is 2D"), ("3d_lowres", "3d_lowres")])
def test_configurations_it_cannot_train_are_refused(make, configuration, message):
    with pytest.raises(ValueError, match=message):
        make(configuration=configuration, initialized=False)


def test_sam_weights_are_loaded_for_a_new_training(make):
    network = make().bare_network()
    assert all(torch.equal(network.encoder.state_dict()[name], x) for name, x in make.sam.items())


def test_missing_sam_file_stops_before_anything_is_made(make, monkeypatch):
    def missing():
        raise FileNotFoundError("no SAM file")

    def forbidden(*args, **kwargs):
        raise AssertionError("preprocessing was started")

    monkeypatch.setattr(trainer, "find_sam_checkpoint", missing)
    monkeypatch.setattr(trainer, "ensure_preprocessed", forbidden)
    with pytest.raises(FileNotFoundError, match="no SAM file"):
        make()


def test_variants_from_scratch_ask_for_no_sam_file(make, monkeypatch):
    class Scratch(nnUNetTrainerTPMamba_tiny):
        config = replace(nnUNetTrainerTPMamba_tiny.config, pretrained=False)

    monkeypatch.setattr(trainer, "find_sam_checkpoint", lambda: pytest.fail("it was asked for"))
    assert all(p.requires_grad for p in make(Scratch).network.parameters())


def test_building_for_prediction_reads_nothing(make, monkeypatch):
    made = make(initialized=False)
    monkeypatch.setattr(trainer, "find_sam_checkpoint", lambda: pytest.fail("it was asked for"))
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail(f"{args[0]} was opened"))
    network = nnUNetTrainerTPMamba_tiny.build_network_architecture(
        PlansManager(made.plans_manager.plans), made.configuration_manager, 1, 3, enable_deep_supervision=False
    )
    assert isinstance(network, TPMamba)


def test_one_step_changes_exactly_what_trains(make):
    made = make()
    with torch.no_grad():
        for parameter in made.network.parameters():
            if parameter.requires_grad and torch.all(parameter == 0):
                parameter.normal_(std=0.02)  # as after a first step: behind a zero layer nothing moves
    before = state(made.network)
    loss = made.train_step(batch())["loss"]
    assert np.isfinite(loss)
    assert changed_since(before, made.network) == {
        name for name, p in made.network.named_parameters() if p.requires_grad
    }


def test_optimizer_holds_exactly_what_trains(make):
    made = make()
    names = {id(p): name for name, p in made.network.named_parameters()}
    decayed, undecayed = ({names[id(p)] for p in group["params"]} for group in made.optimizer.param_groups)
    assert decayed | undecayed == {name for name, p in made.network.named_parameters() if p.requires_grad}
    assert [g["weight_decay"] for g in made.optimizer.param_groups] == [1e-2, 0.0]
    for name, parameter in made.network.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim == 1 or name.endswith("A_log")
            assert (name in undecayed) == spared, name


def test_positions_are_not_decayed_from_scratch(make):
    class Scratch(nnUNetTrainerTPMamba_tiny):
        config = replace(nnUNetTrainerTPMamba_tiny.config, pretrained=False)

    made = make(Scratch)
    undecayed = {id(p) for p in made.optimizer.param_groups[1]["params"]}
    positions = [p for name, p in made.network.named_parameters() if "pos_embed" in name or "rel_pos" in name]
    assert len(positions) == 1 + 2 * 4
    assert all(id(p) in undecayed for p in positions)


def test_learning_rate_falls_to_zero_over_the_epochs(make):
    made = make()
    rates = []
    for epoch in range(3):
        made.current_epoch = epoch
        made.on_train_epoch_start()
        rates.append({group["lr"] for group in made.optimizer.param_groups})
    expected = [2e-4 * (1 - epoch / 3) ** 0.9 for epoch in range(3)]
    assert [len(r) for r in rates] == [1, 1, 1]
    np.testing.assert_allclose([r.pop() for r in rates], expected)


def test_warmup_scales_the_first_epochs_only(make):
    class Warm(nnUNetTrainerTPMamba_tiny):
        config = replace(nnUNetTrainerTPMamba_tiny.config, warmup_epochs=1)

    rates = {}
    for cls in (nnUNetTrainerTPMamba_tiny, Warm):
        made = make(cls)
        rates[cls] = []
        for epoch in (0, 1, 2, 0):  # a resumed training starts anywhere
            made.lr_scheduler.step(epoch)
            rates[cls].append(made.optimizer.param_groups[1]["lr"])
    np.testing.assert_allclose(np.divide(rates[Warm], rates[nnUNetTrainerTPMamba_tiny]), [0.5, 1, 1, 0.5])


def test_foreground_is_sampled_by_chance(make):
    made = make()
    assert made.batch_size == 1
    made.on_train_start()
    loader = made.dataloader_train.data_loader
    np.random.seed(0)
    share = np.mean([loader.get_do_oversample(0) for _ in range(1000)])
    assert 0.45 < share < 0.55


@pytest.mark.parametrize(("channels", "scale"), [(["CT"], [0.25]), (["CT", "MR"], [0.25, 1.0])])
def test_noise_has_nnunets_strength_in_hu(make, channels, scale):
    made = make(initialized=False)
    made.configuration_manager.configuration["normalization_schemes"] = [
        "CTNormalization" if channel == "CT" else "ZScoreNormalization" for channel in channels
    ]
    transforms = made.get_training_transforms((8, 16, 16), (0.0, 0.0), None, (0, 1, 2), False).transforms
    noise = [t.transform for t in transforms if isinstance(getattr(t, "transform", None), GaussianNoiseTransform)]
    assert len(noise) == 1
    assert isinstance(noise[0], ScaledGaussianNoise)

    stock = GaussianNoiseTransform((0.1, 0.1), 1, True)
    ours = ScaledGaussianNoise(scale, stock)
    image = torch.zeros(len(channels), 8, 16, 16)
    torch.manual_seed(0)
    expected = stock(image=image.clone(), segmentation=None)["image"] * torch.tensor(scale)[:, None, None, None]
    torch.manual_seed(0)
    torch.testing.assert_close(ours(image=image.clone(), segmentation=None)["image"], expected)


def test_mirroring_can_be_switched_off(make):
    class Unmirrored(nnUNetTrainerTPMamba_tiny):
        config = replace(nnUNetTrainerTPMamba_tiny.config, mirroring=False)

    for cls, axes in (nnUNetTrainerTPMamba_tiny, (0, 1, 2)), (Unmirrored, None):
        made = make(cls, initialized=False)
        assert made.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[-1] == axes
        assert made.inference_allowed_mirroring_axes == axes


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training(make, value):
    made = make()
    bad = batch(data=torch.full((1, 1, 8, 16, 16), value), keys=["case3"])
    for step, phase in (made.validation_step, "validation"), (made.train_step, "training"):
        with pytest.raises(
            RuntimeError, match=rf"the {phase} loss became nan in epoch 0 \(cases case3\).*--c.*initial_lr"
        ):
            step(bad)


def test_resuming_continues_learning_rate_epoch_and_weights(make, monkeypatch):
    first = make()
    first.train_step(batch(0))
    first.train_step(batch(1))
    for name in ("train_losses", "val_losses", "mean_fg_dice", "epoch_start_timestamps", "epoch_end_timestamps", "lrs"):
        first.logger.log(name, 0.5, 0)
    first.save_checkpoint(f"{first.output_folder}/checkpoint_latest.pth")

    monkeypatch.setattr(trainer, "find_sam_checkpoint", lambda: pytest.fail("a checkpoint needs no SAM file"))
    resumed = make(initialized=False)
    resumed.load_checkpoint(f"{first.output_folder}/checkpoint_latest.pth")
    assert resumed.current_epoch == 1
    for name, x in state(first.network).items():
        assert torch.equal(resumed.network.state_dict()[name], x), name

    for made in (first, resumed):
        made.current_epoch = 1
        made.on_train_epoch_start()
        assert made.optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 * (2 / 3) ** 0.9)
        made.train_step(batch(2))  # with the moments of the first two steps
    for name, x in state(first.network).items():
        torch.testing.assert_close(resumed.network.state_dict()[name], x, rtol=0, atol=0)


def test_deep_supervision_is_a_no_op(make):
    made = make()
    made.set_deep_supervision_enabled(True)
    assert made.network(batch()["data"]).shape == (1, 3, 8, 16, 16)


def test_a_split_that_another_fold_is_writing_is_waited_for(planned, make):
    splits = planned.preprocessed / NAME / "splits_final.json"
    splits.unlink(missing_ok=True)
    made = make()
    expected = made.do_split()
    whole = splits.read_text()
    assert len(json.loads(whole)) == 5
    with ThreadPoolExecutor(1) as pool:
        with FileLock(f"{splits}.lock"):
            splits.write_text(whole[:20])
            split = pool.submit(made.do_split)
            time.sleep(0.5)
            assert not split.done()
            splits.write_text(whole)
        assert split.result(timeout=30) == expected


def test_a_read_only_folder_with_a_split_will_do(make, monkeypatch):
    made = make()
    expected = made.do_split()

    def denied(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(splits, "acquire", denied)
    assert made.do_split() == expected


def test_a_read_only_folder_without_a_split_will_do(planned, make, monkeypatch):
    file = planned.preprocessed / NAME / "splits_final.json"
    file.unlink(missing_ok=True)
    expected = [make(fold=fold).do_split() for fold in range(6)]  # the sixth is none of the five: nnU-Net draws one
    file.unlink()

    def denied(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(splits, "acquire", denied)
    assert [make(fold=fold).do_split() for fold in range(6)] == expected
    assert not file.exists()


def test_whole_training_in_this_process(make, monkeypatch):
    """Data loading, epochs, checkpoints and what prediction will read."""
    made = make(initialized=False)
    made.run_training()
    folder = made.output_folder
    checkpoint = torch.load(f"{folder}/checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainerTPMamba_tiny"
    fresh = TPMamba(1, 3, made.config)
    fresh.load_state_dict(checkpoint["network_weights"])  # strict: all that prediction needs is in there
    plans = json.loads(Path(made.output_folder_base, "plans.json").read_text())
    assert list(plans["configurations"]) == ["3d_fullres"]
    assert plans["configurations"]["3d_fullres"]["patch_size"] == [8, 16, 16]


class nnUNetTrainerTPMamba_tiny_exploding(nnUNetTrainerTPMamba_tiny):
    """Learns well for two epochs; the third has a learning rate that no network survives."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.save_every = 1

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        if self.current_epoch == 2:
            self.optimizer.param_groups[0]["lr"] = 1e30


def test_a_diverged_training_keeps_its_last_good_checkpoint(make):
    made = make(nnUNetTrainerTPMamba_tiny_exploding)
    with pytest.raises(RuntimeError, match=r"loss became (nan|inf) in epoch 2 .*continue with --c"):
        made.run_training()
    checkpoint = torch.load(f"{made.output_folder}/checkpoint_latest.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert all(x.isfinite().all() for x in checkpoint["network_weights"].values())


def test_out_of_gpu_memory_says_what_to_change(make, monkeypatch):
    """The error itself is made up: no GPU is needed to test the message."""
    made = make()
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    monkeypatch.setattr(made.network, "forward", lambda data: (_ for _ in ()).throw(error))
    with pytest.raises(RuntimeError, match=r"too little memory .*2.00 GiB.*checkpointing=True.*_grid6"):
        made.train_step(batch())
    assert "too little memory" in Path(made.log_file).read_text()


class nnUNetTrainerTPMamba_tiny_checkpointed(nnUNetTrainerTPMamba_tiny):
    config = replace(nnUNetTrainerTPMamba_tiny.config, checkpointing=True)


@pytest.mark.parametrize(
    ("cls", "free", "on", "why"),
    [
        (nnUNetTrainerTPMamba_tiny, 2**40, False, r"off; a training step needs about .* GB, 1099.5 GB are free"),
        (nnUNetTrainerTPMamba_tiny, 1, True, r"on; a training step needs about .* without and .* with it"),
        (nnUNetTrainerTPMamba_tiny, None, False, "off; the free memory is not known here"),
        (nnUNetTrainerTPMamba_tiny_checkpointed, 2**40, True, "on, as configured"),
    ],
)
def test_checkpointing_follows_the_free_memory_and_is_said_in_the_log(make, monkeypatch, cls, free, on, why):
    made = make(cls)
    before = made.network.state_dict().keys()
    monkeypatch.setattr(trainer, "free_bytes", lambda device: free)
    made.on_train_start()
    assert made.bare_network().checkpointing == on
    assert re.search(f"Activation checkpointing: {why}", Path(made.log_file).read_text())
    assert made.network.state_dict().keys() == before
    assert np.isfinite(made.train_step(batch())["loss"])


@pytest.mark.parametrize(
    ("variant", "differs"),
    [
        ("grid6", {"in_plane_upsample": 1}),
        ("scratch", {"pretrained": False}),
        ("1epoch", {"num_epochs": 1}),
        ("5epochs", {"num_epochs": 5}),
        ("10epochs", {"num_epochs": 10}),
        ("20epochs", {"num_epochs": 20}),
        ("50epochs", {"num_epochs": 50}),
        ("100epochs", {"num_epochs": 100}),
        ("250epochs", {"num_epochs": 250}),
        ("500epochs", {"num_epochs": 500}),
    ],
)
def test_variants_differ_by_what_their_name_says(variant, differs):
    cls = getattr(variants, f"nnUNetTrainerTPMamba_{variant}")
    assert cls.config == replace(nnUNetTrainerTPMamba.config, **differs)


def test_small_keeps_the_data_and_the_training():
    small, full = variants.nnUNetTrainerTPMamba_small.config, nnUNetTrainerTPMamba.config
    encoder = {"embed_dim", "depth", "num_heads", "window_size", "encoder_image_size", "pretrained"}
    assert {name for name in vars(full) if getattr(small, name) != getattr(full, name)} == encoder


def test_demo_epochs_can_be_set(make, monkeypatch):
    monkeypatch.setenv("TPMAMBA_DEMO_EPOCHS", "7")
    assert make(variants.nnUNetTrainerTPMamba_demo, initialized=False).num_epochs == 7


@pytest.mark.parametrize("epochs", ["0", "-3", "many", ""])
def test_bad_demo_epochs_are_refused(make, monkeypatch, epochs):
    monkeypatch.setenv("TPMAMBA_DEMO_EPOCHS", epochs)
    with pytest.raises(ValueError, match=f"TPMAMBA_DEMO_EPOCHS is '{epochs}'; set it to a whole number"):
        make(variants.nnUNetTrainerTPMamba_demo, initialized=False)


def test_a_patch_that_tokens_do_not_fill_is_refused_before_anything_is_made(make):
    class Odd(nnUNetTrainerTPMamba_tiny):
        config = replace(TINY, patch_size=(8, 20, 16))

    with pytest.raises(ValueError, match=r"patch size \(8, 20, 16\): H and W must be multiples of 8"):
        make(Odd, initialized=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_full_size_step_on_a_real_ct(real_data, nnunet, tmp_path, monkeypatch):
    """One iteration of the paper's trainer on a 96 mm cube, from a Meta-layout SAM file of random weights."""
    name = "Dataset702_HeadNeckCrop"
    (nnunet.raw / name).symlink_to(real_data / name)
    nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 702, "-c", "3d_fullres", "--no_pp", "-npfp", 2)
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, nnunet.environment[variable])
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    sam = write_meta_checkpoint(tmp_path / "sam_vit_b.pth")
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(sam))

    folder = nnunet.preprocessed / name
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    made = nnUNetTrainerTPMamba(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    made.on_train_start()
    sam.unlink()
    with torch.no_grad():
        for parameter in made.network.parameters():
            if parameter.requires_grad and torch.all(parameter == 0):
                parameter.normal_(std=1e-3)  # as after a first step: behind a zero layer nothing moves
    before = state(made.network)
    patch = next(made.dataloader_train)
    assert patch["data"].shape == (1, 1, 96, 96, 96)
    loss = made.train_step(patch)["loss"]
    print(f"loss {loss}")
    assert np.isfinite(loss)
    assert changed_since(before, made.network) == {n for n, p in made.network.named_parameters() if p.requires_grad}
