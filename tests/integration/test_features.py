"""What nnU-Net offers beside plain training and prediction, with our trainer: its real commands on tiny images."""

import json
import shutil

import numpy as np
import pytest
import torch
from support.images import assert_same_geometry, content, read_array, read_probabilities
from support.nnunet import model_folder
from support.raw_datasets import write_raw_dataset

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

TRAINER = "nnUNetTrainerTPMamba_tiny_short"
CASES = [f"case{i}" for i in range(5)]
SHAPE, SPACING = (12, 24, 24), (3.0, 2.0, 2.0)


def plan(nnunet, name, **contents):
    write_raw_dataset(nnunet.raw / name, CASES, SHAPE, SPACING, **contents)
    nnunet.plan(name)


def model(results, name, plans="nnUNetPlans"):
    return model_folder(results, name, TRAINER, plans)


def load(path):
    return torch.load(path, weights_only=False, map_location="cpu")


DATASETS = {
    "Dataset911_TwoMRI": {"channels": ("T1", "T2")},
    "Dataset912_FourMRI": {"channels": ("T1", "T1ce", "T2", "FLAIR")},
    "Dataset913_CTAndPET": {"channels": ("CT", "PET")},
    "Dataset914_OneLabel": {"labels": ("one",)},
    "Dataset915_HundredLabels": {"labels": [f"label{i}" for i in range(100)]},
    "Dataset916_NRRD": {"ending": ".nrrd"},
}


@pytest.fixture(scope="module")
def datasets(module_nnunet):
    """Plan, train and predict a kind of data set when it is first asked for; return the folder of predictions."""
    made = {}

    def make(name):
        if name not in made:
            plan(module_nnunet, name, **DATASETS[name])
            module_nnunet.train(name, TRAINER)
            images, output = module_nnunet.raw / name / "imagesTr", module_nnunet.results.with_name(name)
            made[name] = module_nnunet.predict(name, TRAINER, images, output, "--save_probabilities")
        return made[name]

    return make


@pytest.mark.parametrize("name", DATASETS)
class TestKindsOfDatasets:
    def test_channels_are_normalised_by_their_names(self, datasets, module_nnunet, name):
        datasets(name)
        channels = DATASETS[name].get("channels", ("CT",))
        (folder,) = module_nnunet.preprocessed.glob(f"{name}/*_tpmamba_6mm")
        for case in CASES:
            from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

            values = nnUNetDatasetBlosc2(str(folder), [case]).load_case(case)[0][:]
            assert len(values) == len(channels)
            for channel, kind in zip(values, channels, strict=True):
                if kind == "CT":
                    assert channel.min() >= 0
                    assert channel.max() <= 1
                else:
                    assert abs(channel.mean()) < 0.2
                    assert channel.min() < -0.5

    def test_network_has_a_map_for_each_label(self, datasets, module_nnunet, name):
        predicted = datasets(name)
        classes = 1 + len(DATASETS[name].get("labels", ("one", "two")))
        weights = load(model(module_nnunet.results, name) / "fold_0" / "checkpoint_final.pth")["network_weights"]
        (head,) = (weight for key, weight in weights.items() if key.endswith("seg_layers.0.weight"))
        assert len(head) == classes
        maps = read_probabilities(predicted / f"{CASES[0]}.npz")
        assert maps.shape == (classes, *SHAPE)
        np.testing.assert_allclose(maps.sum(0), 1, atol=1e-4)

    def test_predicts_labels_of_the_dataset_in_its_file_format(self, datasets, module_nnunet, name):
        predicted = datasets(name)
        ending = DATASETS[name].get("ending", ".nii.gz")
        description = json.loads((module_nnunet.raw / name / "dataset.json").read_text())
        for case in CASES:
            path = predicted / f"{case}{ending}"
            assert_same_geometry(path, module_nnunet.raw / name / "imagesTr" / f"{case}_0000{ending}")
            assert set(np.unique(read_array(path))) <= set(description["labels"].values())
        validated = model(module_nnunet.results, name) / "fold_0" / "validation"
        assert [path.name for path in validated.glob(f"case*{ending}")]


NAME = "Dataset910_Blobs"


@pytest.fixture(scope="module")
def trained(module_nnunet):
    """Two folds, the first with its validation's probabilities."""
    plan(module_nnunet, NAME)
    module_nnunet.train(NAME, TRAINER, "--npz")
    module_nnunet.train(NAME, TRAINER, fold=1)
    return module_nnunet


def validation_case(fold):
    (path,) = (fold / "validation").glob("*.nii.gz")
    return path.name.removesuffix(".nii.gz")


class TestTrainingOptions:
    @pytest.fixture
    def copied(self, trained, tmp_path):
        """A copy of the results, for commands that change them; fold 1's weights are fold 0's best."""
        results = tmp_path / "results"
        shutil.copytree(trained.results, results)
        fold = model(results, NAME) / "fold_0"
        shutil.copy(fold.with_name("fold_1") / "checkpoint_final.pth", fold / "checkpoint_best.pth")
        return results

    def test_npz_holds_the_probabilities_of_the_validation(self, trained):
        fold = model(trained.results, NAME) / "fold_0"
        case = validation_case(fold)
        maps = read_probabilities(fold / "validation" / f"{case}.npz")
        np.testing.assert_allclose(maps.sum(0), 1, atol=1e-4)
        np.testing.assert_array_equal(maps.argmax(0), read_array(fold / "validation" / f"{case}.nii.gz"))
        assert not list((fold.with_name("fold_1") / "validation").glob("*.npz"))

    @pytest.mark.parametrize(
        ("options", "checkpoint"), [((), "checkpoint_final"), (("--val_best",), "checkpoint_best")]
    )
    def test_val_validates_the_checkpoint_asked_for(self, trained, copied, tmp_path, options, checkpoint):
        fold = model(copied, NAME) / "fold_0"
        case = validation_case(fold)
        checkpoints = {path: digest for path, digest in content(fold).items() if path.suffix == ".pth"}
        shutil.rmtree(fold / "validation")
        result = trained.train(NAME, TRAINER, "--val", "--npz", *options, nnUNet_results=str(copied))
        assert "Epoch 0" not in result.stdout
        assert {path: digest for path, digest in content(fold).items() if path.suffix == ".pth"} == checkpoints
        images = tmp_path / "images"
        images.mkdir()
        shutil.copy(trained.raw / NAME / "imagesTr" / f"{case}_0000.nii.gz", images)
        options = ("-chk", f"{checkpoint}.pth", "--save_probabilities")
        predicted = trained.predict(NAME, TRAINER, images, tmp_path / "out", *options, nnUNet_results=str(copied))
        expected = read_probabilities(predicted / f"{case}.npz")
        validated = read_probabilities(fold / "validation" / f"{case}.npz")
        np.testing.assert_allclose(validated, expected, atol=1e-4)
        other = read_probabilities(model(trained.results, NAME) / "fold_0" / "validation" / f"{case}.npz")
        assert np.allclose(validated, other, atol=1e-4) == (checkpoint == "checkpoint_final")

    @pytest.mark.parametrize("number", [2, 4])
    def test_disable_checkpointing_leaves_no_checkpoint_and_validates(self, trained, number):
        trained.train(NAME, TRAINER, "--disable_checkpointing", fold=number)
        fold = model(trained.results, NAME) / f"fold_{number}"
        assert len(json.loads((fold / "validation" / "summary.json").read_text())["metric_per_case"]) == 1
        assert not [path.name for path in fold.rglob("*") if ".pth" in path.name]

    def test_custom_plans_have_results_and_data_of_their_own(self, trained, tmp_path):
        before = content(model(trained.results, NAME))
        trained.run("nnUNetv2_plan_experiment", "-d", 910, "-overwrite_plans_name", "OtherPlans")
        trained.train(NAME, TRAINER, "-p", "OtherPlans")
        other = model(trained.results, NAME, "OtherPlans")
        assert json.loads((other / "plans.json").read_text())["plans_name"] == "OtherPlans"
        made = {path.name for path in (trained.preprocessed / NAME).iterdir() if path.is_dir()}
        assert {"nnUNetPlans_3d_fullres_tpmamba_6mm", "OtherPlans_3d_fullres_tpmamba_6mm"} <= made
        predicted = trained.predict(NAME, TRAINER, trained.raw / NAME / "imagesTr", tmp_path, "-p", "OtherPlans")
        assert len(list(predicted.glob("case*.nii.gz"))) == len(CASES)
        assert content(model(trained.results, NAME)) == before

    def test_pretrained_weights_come_from_a_dataset_with_other_labels(self, trained, datasets):
        name = "Dataset914_OneLabel"
        datasets(name)
        weights_file = model(trained.results, name) / "fold_0" / "checkpoint_final.pth"
        trained.train(NAME, TRAINER, "-pretrained_weights", weights_file, fold=3)
        given, fresh, after = (
            load(path)["network_weights"]
            for path in (
                weights_file,
                model(trained.results, NAME) / "fold_0" / "checkpoint_final.pth",
                model(trained.results, NAME) / "fold_3" / "checkpoint_final.pth",
            )
        )
        heads = {key for key in given if given[key].shape != after[key].shape}
        assert {key.split(".", 1)[1] for key in heads} == {"seg_layers.0.weight", "seg_layers.0.bias"}
        random = [key for key in given if key not in heads and (given[key] - fresh[key]).abs().max() > 0.05]
        assert len(random) > 10
        for key in random:  # two small steps away from what was given
            torch.testing.assert_close(after[key], given[key], rtol=0, atol=0.01, msg=key)
