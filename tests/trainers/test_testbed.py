"""The testbed in this process, on a tiny data set planned by nnU-Net; the real commands are in tests/integration."""

import json
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
from support.tiny_trainer import NAME, batch, nnUNetTrainerTPMamba_tiny

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.data import splits
from nnunetv2_tpmamba.data.training_log import read_environment
from nnunetv2_tpmamba.files import sha256_of_tensors
from nnunetv2_tpmamba.networks.sam import download
from nnunetv2_tpmamba.trainers import testbed
from nnunetv2_tpmamba.trainers.augmentation import ScaledGaussianNoise


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


def test_building_for_prediction_reads_nothing(make, monkeypatch):
    made = make(initialized=False)
    monkeypatch.setattr(download, "find_sam_checkpoint", lambda model: pytest.fail("it was asked for"))
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail(f"{args[0]} was opened"))
    network = nnUNetTrainerTPMamba_tiny.build_network_architecture(
        PlansManager(made.plans_manager.plans), made.configuration_manager, 1, 3, enable_deep_supervision=False
    )
    assert isinstance(network, TPMamba)


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
        testbed = replace(nnUNetTrainerTPMamba_tiny.testbed, mirroring=False)

    for cls, axes in (nnUNetTrainerTPMamba_tiny, (0, 1, 2)), (Unmirrored, None):
        made = make(cls, initialized=False)
        assert made.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[-1] == axes
        assert made.inference_allowed_mirroring_axes == axes


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


def test_a_split_of_unknown_cases_is_refused_before_data_are_made(planned, make, monkeypatch):
    file = planned.preprocessed / NAME / "splits_final.json"
    monkeypatch.setattr(testbed, "ensure_preprocessed", lambda *_, **__: pytest.fail("data are made"))
    made = make(initialized=False)
    former = file.read_text() if file.is_file() else None
    try:
        file.write_text(json.dumps([{"train": ["case0", "case1"], "val": ["case2.nii.gz"]}]))
        with pytest.raises(ValueError, match=r"cases that there are not: case2.nii.gz; write case2 for case2.nii.gz"):
            made.initialize()
    finally:
        file.unlink()
        if former is not None:
            file.write_text(former)


def test_a_whole_training_leaves_what_prediction_needs(make, monkeypatch):
    """Data loading, epochs, checkpoints and what prediction will read."""
    made = make(initialized=False)
    made.run_training()
    folder = made.output_folder
    checkpoint = torch.load(f"{folder}/checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainerTPMamba_tiny"
    logged = read_environment(Path(made.log_file).read_text())
    assert logged["torch"] == torch.__version__
    assert (logged["encoder"], logged["encoder_sha256"]) == ("unknown encoder", sha256_of_tensors(make.sam))
    fresh = TPMamba(1, 3, made.config)
    fresh.load_state_dict(checkpoint["network_weights"])  # strict: all that prediction needs is in there
    plans = json.loads(Path(made.output_folder_base, "plans.json").read_text())
    assert list(plans["configurations"]) == ["3d_fullres"]
    assert plans["configurations"]["3d_fullres"]["patch_size"] == [8, 16, 16]
