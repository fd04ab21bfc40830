"""How a trainer reads images, and that a model of before is read as before; what the data are is in tests/data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.tiny_trainer import nnUNetTrainerTPMamba_tiny


class AsStored(nnUNetTrainerTPMamba_tiny):
    """As trainers read before images were turned; it takes the name of the one that turns them."""

    testbed = replace(nnUNetTrainerTPMamba_tiny.testbed, orientation="stored")


AsStored.__name__ = nnUNetTrainerTPMamba_tiny.__name__


def log_of(made):
    return Path(made.log_file).read_text()


def reader_of(made):
    return made.plans_manager.image_reader_writer_class.__name__


@pytest.fixture
def trained_before(make):
    """Fold 0 of a model whose images were read as they are stored."""
    made = make(AsStored, initialized=False)
    made.run_training()
    return made


def test_the_log_says_how_images_are_read(make):
    made = make()
    assert reader_of(made) == "SimpleITKIOWithReorient"
    assert "Orientation: every image is read as RAS (SimpleITKIOWithReorient); 5 of 5 training cases" in log_of(made)
    assert Path(made.preprocessed_dataset_folder).name == "nnUNetPlans_3d_fullres_tpmamba"


def test_a_model_of_before_goes_on_as_it_began(trained_before, make):
    for fold in (0, 1):
        made = make(fold=fold)
        assert reader_of(made) == "SimpleITKIO"
        assert Path(made.preprocessed_dataset_folder).name == "nnUNetPlans_3d_fullres_tpmamba_stored"
        assert "read as they are stored, because the model's earlier folds were; all 5 training cases" in log_of(made)
    made.load_checkpoint(str(Path(trained_before.output_folder) / "checkpoint_final.pth"))
    made.perform_actual_validation()
    summary = Path(made.output_folder, "validation", "summary.json")
    assert len(json.loads(summary.read_text())["metric_per_case"]) == 1


@pytest.mark.parametrize(("stock", "alike"), [("SimpleITKIO", False), ("SimpleITKIOWithReorient", True)])
def test_probabilities_come_with_advice_on_ensembling(make, monkeypatch, stock, alike):
    made = make(initialized=False)
    made.stock_reader = stock
    monkeypatch.setattr(
        "nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetTrainer.perform_actual_validation", lambda *a: None
    )
    made.perform_actual_validation(save_probabilities=False)
    assert "Ensembling" not in log_of(made)
    made.perform_actual_validation(save_probabilities=True)
    assert "Ensembling: nnUNetv2_ensemble and nnUNetv2_find_best_configuration average" in log_of(made)
    assert ("Stock trainers on nnUNetPlans do not" in log_of(made)) != alike
