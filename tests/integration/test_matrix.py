"""nnU-Net's own integration tests with our trainer: hippocampus MRI, plain, regions, ignore label, and both.

The data sets are made by nnU-Net's own scripts; then come all the commands that follow a training.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.images import read_array, read_probabilities, store_as
from support.nnunet import NnUNet, model_folder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

OURS, STOCK = "nnUNetTrainerTPMamba_tiny_short", "nnUNetTrainer_short"
PLAIN = "Dataset999_IntegrationTest_Hippocampus"
MATRIX = {
    PLAIN: ({0, 1, 2}, 3),
    "Dataset998_IntegrationTest_Hippocampus_ignore": ({0, 1}, 2),
    "Dataset997_IntegrationTest_Hippocampus_regions": ({0, 1, 2}, 2),
    "Dataset996_IntegrationTest_Hippocampus_regions_ignore": ({0, 1, 2}, 2),
}
"""Labels that may be predicted (never the ignore label: 2 in Dataset998, 3 in Dataset996), and the network's maps."""

FOLDS = (0, 1)
CASES = 8


@pytest.fixture(scope="module")
def nnunet(module_nnunet, real_data):
    """All four data sets, of eight cases; two folds."""
    nnunet = module_nnunet
    source, copy = real_data / "Dataset704_Hippocampus", nnunet.raw / "Dataset004_Hippocampus"
    labels = sorted((source / "labelsTr").glob("*.nii.gz"))[:CASES]
    for folder in ("imagesTr", "labelsTr"):
        (copy / folder).mkdir(parents=True)
    for label in labels:
        shutil.copy(label, copy / "labelsTr")
        shutil.copy(source / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz"), copy / "imagesTr")
    description = json.loads((source / "dataset.json").read_text())
    description |= {"numTraining": CASES, "labels": {"background": 0, "Anterior": 1, "Posterior": 2}}  # as they expect
    (copy / "dataset.json").write_text(json.dumps(description))
    for name in MATRIX:
        module = f"nnunetv2.dataset_conversion.datasets_for_integration_tests.{name}"
        subprocess.run([sys.executable, "-m", module], env=nnunet.environment, check=True, capture_output=True)
        if name == PLAIN:
            store_otherwise(nnunet.raw / name, labels[::3])
        nnunet.plan(name)
        cases = [label.name.removesuffix(".nii.gz") for label in labels]
        splits = [{"train": cases[fold + 1 :] + cases[:fold], "val": cases[fold : fold + 1]} for fold in FOLDS]
        (nnunet.preprocessed / name / "splits_final.json").write_text(json.dumps(splits))
    return nnunet


def store_otherwise(raw, labels):
    """Store some cases in another orientation, and let the stock trainer turn all to RAS, as ours does."""
    for label in labels:
        for file in (raw / "labelsTr" / label.name, raw / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz")):
            store_as(file, file, "PIL")
    description = json.loads((raw / "dataset.json").read_text())
    description["overwrite_image_reader_writer"] = "SimpleITKIOWithReorient"
    (raw / "dataset.json").write_text(json.dumps(description))


def train(nnunet, name, trainer, folds):
    for fold in folds:
        nnunet.train(name, trainer, "--npz", fold=fold)


def predict(nnunet, name, trainer, output, *options, folds=FOLDS):
    images = nnunet.raw / name / "imagesTr"
    return nnunet.predict(name, trainer, images, output, "--disable_tta", *options, folds=folds)


@pytest.mark.parametrize("name", MATRIX)
class TestMatrix:
    @pytest.fixture(scope="class")
    def trained(self, nnunet):
        """Two folds and all cases at once, of each data set when it is first asked for."""
        made = set()

        def trained(name):
            if name not in made:
                train(nnunet, name, OURS, (*FOLDS, "all"))
                made.add(name)
            return nnunet

        return trained

    def test_validates_each_label_or_region(self, trained, name):
        nnunet = trained(name)
        labels = json.loads((nnunet.raw / name / "dataset.json").read_text())["labels"]
        evaluated = len(labels) - 1 - ("ignore" in labels)
        labels_predicted, num_maps = MATRIX[name]
        for fold, cases in ((0, 1), (1, 1), ("all", CASES)):
            folder = model_folder(nnunet.results, name, OURS) / f"fold_{fold}" / "validation"
            summary = json.loads((folder / "summary.json").read_text())
            assert len(summary["metric_per_case"]) == cases
            assert len(summary["mean"]) == evaluated
            for path in folder.glob("*.nii.gz"):
                assert set(np.unique(read_array(path))) <= labels_predicted
                assert len(read_probabilities(path.with_suffix("").with_suffix(".npz"))) == num_maps

    @pytest.mark.parametrize("folds", [FOLDS, ("all",)])
    def test_predicts_the_labels_of_the_dataset(self, trained, tmp_path, name, folds):
        nnunet = trained(name)
        predicted = predict(nnunet, name, OURS, tmp_path, folds=folds)
        paths = list(predicted.glob("*.nii.gz"))
        assert len(paths) == CASES
        for path in paths:
            assert set(np.unique(read_array(path))) <= MATRIX[name][0]


class TestAfterTraining:
    """On the plain data set, beside the stock trainer."""

    @pytest.fixture(scope="class")
    def both(self, nnunet):
        for trainer in (OURS, STOCK):
            if not (model_folder(nnunet.results, PLAIN, trainer) / "fold_1" / "checkpoint_final.pth").is_file():
                if trainer == STOCK:
                    nnunet.run("nnUNetv2_preprocess", "-d", PLAIN[7:10], "-c", "3d_fullres", "-np", 1)
                train(nnunet, PLAIN, trainer, FOLDS)
        return nnunet

    @pytest.fixture(scope="class")
    def predicted(self, both, tmp_path_factory):
        """Both models' predictions with probabilities."""
        folder = tmp_path_factory.mktemp("predicted")
        return [predict(both, PLAIN, tr, folder / tr, "--save_probabilities") for tr in (OURS, STOCK)]

    def test_find_best_configuration(self, both):
        arguments = (PLAIN, "-c", "3d_fullres", "-tr", OURS, STOCK, "-f", *FOLDS, "-np", 1)
        said = both.run("nnUNetv2_find_best_configuration", *arguments).stdout
        instructions = (both.results / PLAIN / "inference_instructions.txt").read_text()
        assert OURS in said + instructions
        information = json.loads((both.results / PLAIN / "inference_information.json").read_text())
        assert {key.split("__")[0] for key in information["all_results"]} >= {OURS, STOCK}

    def test_accumulate_crossval_results(self, both, tmp_path):
        both.run(
            *("nnUNetv2_accumulate_crossval_results", PLAIN, "-c", "3d_fullres", "-tr", OURS, "-f", *FOLDS),
            *("-o", tmp_path / "merged"),
        )
        summary = json.loads((tmp_path / "merged" / "summary.json").read_text())
        assert len(summary["metric_per_case"]) == len(FOLDS)

    def test_ensemble_is_the_mean_of_both(self, both, predicted, tmp_path):
        both.run("nnUNetv2_ensemble", "-i", *predicted, "-o", tmp_path, "-np", 1)
        for path in predicted[0].glob("*.npz"):
            mean = sum(read_probabilities(folder / path.name) for folder in predicted) / 2
            store_as(tmp_path / f"{path.stem}.nii.gz", tmp_path / "turned.nii.gz", "RAS")
            different = mean.argmax(0) != read_array(tmp_path / "turned.nii.gz")
            assert different.mean() < 0.001  # where two labels are as likely

    def test_apply_postprocessing(self, both, predicted, tmp_path):
        both.run("nnUNetv2_find_best_configuration", PLAIN, "-c", "3d_fullres", "-tr", OURS, "-f", *FOLDS, "-np", 1)
        best = model_folder(both.results, PLAIN, OURS) / "crossval_results_folds_0_1"  # where ours has no rival
        both.run(
            *("nnUNetv2_apply_postprocessing", "-i", predicted[0], "-o", tmp_path, "-np", 1),
            *("-pp_pkl_file", best / "postprocessing.pkl", "-plans_json", best / "plans.json"),
        )
        assert len(list(tmp_path.glob("*.nii.gz"))) == CASES

    def test_evaluate_folder(self, both, predicted, tmp_path):
        both.run(
            *("nnUNetv2_evaluate_folder", both.raw / PLAIN / "labelsTr", predicted[0], "-np", 1),
            *("-djfile", predicted[0] / "dataset.json", "-pfile", predicted[0] / "plans.json"),
            *("-o", tmp_path / "summary.json"),
        )
        assert len(json.loads((tmp_path / "summary.json").read_text())["metric_per_case"]) == CASES

    def test_plot_overlay_pngs(self, both, tmp_path):
        both.run("nnUNetv2_plot_overlay_pngs", "-d", PLAIN, "-o", tmp_path, "-np", 1)
        assert len(list(tmp_path.glob("*.png"))) == CASES

    def test_zip_predicts_the_same_where_nothing_else_is(self, both, predicted, tmp_path):
        both.run(
            *("nnUNetv2_export_model_to_zip", "-d", PLAIN, "-o", tmp_path / "model.zip", "-c", "3d_fullres"),
            *("-tr", OURS, "-f", *FOLDS),
        )
        elsewhere = NnUNet(tmp_path / "elsewhere")
        elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", tmp_path / "model.zip")
        shutil.copytree(both.raw / PLAIN / "imagesTr", elsewhere.raw / PLAIN / "imagesTr")
        again = predict(elsewhere, PLAIN, OURS, tmp_path / "again", "--save_probabilities")
        for path in predicted[0].glob("*.npz"):
            one, other = (read_probabilities(folder / path.name) for folder in (predicted[0], again))
            np.testing.assert_array_equal(one, other)
