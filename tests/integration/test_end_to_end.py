"""nnU-Net's real commands in subprocesses, as a user runs them: on real CTs, and on tiny ones where it takes many."""

import json
import os
import re
import shutil
import signal

import blosc2
import numpy as np
import pytest
import SimpleITK
import torch
from support.images import (
    assert_same_geometry,
    content,
    orientation_of,
    read_array,
    store_as,
    turned,
    write_image,
)
from support.nnunet import ON_CPU, model_folder, train_command
from support.raw_datasets import link_cases, write_raw_dataset
from support.sam_files import write_meta_checkpoint


def predict(nnunet, dataset, trainer, images, output, **how):
    """Predict without mirroring; return the files."""
    nnunet.predict(dataset, trainer, images, output, "--disable_tta", **how)
    return sorted(output.glob("*.nii.gz"))


class TestRealCT:
    """Real CTs: few-shot splits, both trainers on fold 0 and two draws of 3 by the script, prediction, comparison.

    Our network is a thin one; what takes the paper's spacing and patch size are the data, of which two in eight cases
    are stored in each of four orientations.
    """

    NAME, CASES = "Dataset702_HeadNeckCrop", 8
    ORIENTATIONS = ("LPS", "RAS", "LAS", "PIR")
    OURS, STOCK = "nnUNetTrainerTPMamba_tiny_fine", "nnUNetTrainer_short"

    @pytest.fixture(scope="class")
    def trained(self, real_data, module_nnunet):
        nnunet = module_nnunet
        link_cases(real_data / self.NAME, nnunet.raw / self.NAME, self.CASES, (None, "RAS", "PIR", "LAS"))
        nnunet.run("nnUNetv2_plan_and_preprocess", "-d", 702, "-c", "3d_fullres", "-np", 1, "-npfp", 1)
        folder, script = nnunet.preprocessed / self.NAME, nnunet.raw.parent / "trainings.sh"
        protocol = ("-d", 702, "-n", 3, "--draws", 2, "--test", 2)
        nnunet.run("nnUNetv2_tpmamba", "fewshot", *protocol, "-tr", self.STOCK, self.OURS, "--script", script)
        before = content(folder)
        trainings = re.findall(r"'nnUNetv2_train (.*)'", script.read_text())
        assert len(trainings) == 6
        for training in trainings:
            nnunet.run("nnUNetv2_train", *training.split(), *ON_CPU)
        after = content(folder)
        nnunet.untouched = {path: digest for path, digest in after.items() if path in before} == before
        return nnunet

    def test_baselines_data_are_untouched(self, trained):
        assert trained.untouched

    def test_model_folder_holds_the_papers_settings(self, trained):
        plans = json.loads((model_folder(trained.results, self.NAME, self.OURS) / "plans.json").read_text())
        settings = plans["configurations"]["3d_fullres"]
        assert settings["spacing"] == [1.0, 1.0, 1.0]
        assert settings["patch_size"] == [96, 96, 96]
        assert plans["plans_name"] == "nnUNetPlans"
        stock = json.loads((model_folder(trained.results, self.NAME, self.STOCK) / "plans.json").read_text())
        assert stock["transpose_forward"] != [0, 1, 2]  # what makes this data set the hard one
        assert plans["transpose_forward"] == [0, 1, 2]

    def test_preprocessed_arrays_are_at_1_mm_in_0_1(self, trained, real_data):
        folder = trained.preprocessed / self.NAME / "nnUNetPlans_3d_fullres_tpmamba"
        arrays = [path for path in sorted(folder.glob("*.b2nd")) if not path.name.endswith("_seg.b2nd")]
        assert len(arrays) == self.CASES
        for path in arrays:
            image = SimpleITK.ReadImage(str(real_data / self.NAME / "imagesTr" / f"{path.stem}_0000.nii.gz"))
            size_in_mm = np.array(image.GetSize()[::-1]) * image.GetSpacing()[::-1]
            values = blosc2.open(str(path), mode="r")[:]
            assert values.shape == (1, *np.round(size_in_mm))
            assert values.min() >= 0
            assert values.max() <= 1

    def test_both_validate_and_their_results_lie_side_by_side(self, trained):
        for trainer in (self.OURS, self.STOCK):
            summary = model_folder(trained.results, self.NAME, trainer) / "fold_0" / "validation" / "summary.json"
            assert len(json.loads(summary.read_text())["metric_per_case"]) == 2

    @pytest.mark.parametrize("trainer", [OURS, STOCK])
    def test_prediction_has_each_inputs_geometry(self, trained, real_data, tmp_path, trainer):
        images = real_data / self.NAME / "imagesTs"
        predicted = predict(trained, self.NAME, trainer, images, tmp_path)
        assert len(predicted) == 6
        for path in predicted:
            assert_same_geometry(path, images / path.name.replace(".nii.gz", "_0000.nii.gz"))
            assert set(np.unique(read_array(path))) <= {0, 1, 2, 3}

    def test_the_log_says_how_images_are_read(self, trained):
        fold = model_folder(trained.results, self.NAME, self.OURS) / "fold_0"
        (log,) = fold.glob("training_log_*.txt")
        assert "6 of 8 training cases were stored otherwise (2 " in log.read_text()
        truth = trained.raw / self.NAME / "labelsTr"
        validated = {path.name: orientation_of(path) for path in (fold / "validation").glob("*.nii.gz")}
        assert validated == {name: orientation_of(truth / name) for name in validated}
        assert len(set(validated.values())) > 1

    def test_orientation_does_not_matter(self, trained, real_data, tmp_path):
        """One CT stored in many orientations gets the same labels; as before, plans that name another reader do not."""
        ct, images = min((real_data / self.NAME / "imagesTs").iterdir()), tmp_path / "images"
        images.mkdir()
        for orientation in self.ORIENTATIONS:
            store_as(ct, images / f"{orientation}_0000.nii.gz", orientation)
        oblique = SimpleITK.ReadImage(str(ct))
        oblique.SetDirection(np.ravel(turned(20)).tolist())
        SimpleITK.WriteImage(oblique, str(images / "oblique_0000.nii.gz"))
        predict(trained, self.NAME, self.OURS, images, tmp_path / "out")
        expected = read_array(tmp_path / "out" / "LPS.nii.gz")
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(read_array(tmp_path / "out" / "oblique.nii.gz"), expected)
        for name in (*self.ORIENTATIONS, "oblique"):
            assert_same_geometry(tmp_path / "out" / f"{name}.nii.gz", images / f"{name}_0000.nii.gz")
        for orientation in self.ORIENTATIONS:
            store_as(tmp_path / "out" / f"{orientation}.nii.gz", tmp_path / "turned.nii.gz", "LPS")
            np.testing.assert_array_equal(read_array(tmp_path / "turned.nii.gz"), expected, err_msg=orientation)

        before = tmp_path / "before"
        shutil.copytree(model_folder(trained.results, self.NAME, self.OURS), before)
        plans = json.loads((before / "plans.json").read_text()) | {"image_reader_writer": "SimpleITKIO"}
        (before / "plans.json").write_text(json.dumps(plans))
        for path in images.iterdir():
            if not path.name.startswith(("LPS", "RAS")):
                path.unlink()
        trained.run(
            *("nnUNetv2_predict_from_modelfolder", "-i", images, "-o", tmp_path / "as_before", "-m", before),
            *("-f", 0, "-npp", 1, "-nps", 1, "--disable_tta", *ON_CPU),
        )
        store_as(tmp_path / "as_before/RAS.nii.gz", tmp_path / "turned.nii.gz", "LPS")
        assert (read_array(tmp_path / "as_before/LPS.nii.gz") != read_array(tmp_path / "turned.nii.gz")).any()

    def test_they_are_compared_as_nnunet_scores_them(self, trained, tmp_path):
        trainers = (self.STOCK, self.OURS)
        trained.run("nnUNetv2_tpmamba", "compare", "-d", 702, "-tr", *trainers, "-o", tmp_path, "-np", 2)
        report = json.loads((tmp_path / "summary.json").read_text())
        assert [group["folds"] for group in report["groups"]] == [["0"], ["1", "2"]]
        assert report["notes"] == []
        for group in report["groups"]:
            for trainer in trainers:
                for fold in group["folds"]:
                    validation = model_folder(trained.results, self.NAME, trainer) / f"fold_{fold}" / "validation"
                    theirs = json.loads((validation / "summary.json").read_text())["foreground_mean"]["Dice"]
                    assert group["methods"][trainer]["Dice"]["per_fold"][fold]["mean"] == theirs
                    assert report["cost"][trainer][fold]["epochs"] == 1
                    cost = report["cost"][trainer][fold]
                    assert (cost["peak_memory_gb"] is None) == (trainer == self.STOCK)
                    assert (cost["prediction_memory_gb"] is None) == (trainer == self.STOCK)
                    assert cost["prediction_seconds"] > 0
                    assert report["environment"][trainer][fold]["torch"] == torch.__version__

    @pytest.mark.integration
    @pytest.mark.timeout(1800)
    def test_the_small_network_trains_and_predicts(self, trained, real_data, tmp_path):
        name = "nnUNetTrainerTPMamba_small_short"
        trained.train(self.NAME, name, timeout=1500)
        images = real_data / self.NAME / "imagesTs"
        predicted = predict(trained, self.NAME, name, images, tmp_path, timeout=1500)
        assert len(predicted) == 6
        for path in predicted:
            assert_same_geometry(path, images / path.name.replace(".nii.gz", "_0000.nii.gz"))
            assert set(np.unique(read_array(path))) <= {0, 1, 2, 3}


class TestTinyCT:
    """Two folds started together on fresh data, both stopped after an epoch, one continued, then prediction."""

    NAME = "Dataset902_Blobs"
    TRAINER = "nnUNetTrainerTPMamba_tiny_stopped"

    @pytest.fixture(scope="class")
    def planned(self, module_nnunet):
        write_raw_dataset(module_nnunet.raw / self.NAME, [f"case{i}" for i in range(5)], (16, 20, 24), (3.0, 2.0, 2.0))
        module_nnunet.plan(self.NAME)
        return module_nnunet

    @pytest.fixture(scope="class")
    def stopped(self, planned):
        """The outputs of the two folds, which end without a word after their first epoch."""
        logs = [planned.results.with_name(f"fold_{fold}.log") for fold in (0, 1)]
        folds = [
            planned.start(log, *train_command(self.NAME, self.TRAINER, fold=fold), STOP_AFTER_AN_EPOCH="1")
            for fold, log in enumerate(logs)
        ]
        for fold in folds:
            fold.wait(timeout=300)
            os.killpg(fold.pid, signal.SIGKILL)
        outputs = [log.read_text() for log in logs]
        assert [fold.returncode for fold in folds] == [3, 3], "\n".join(outputs)
        return outputs

    @pytest.fixture(scope="class")
    def continued(self, planned, stopped):
        fold = model_folder(planned.results, self.NAME, self.TRAINER) / "fold_0"
        at_stop = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
        result = planned.train(self.NAME, self.TRAINER, "--c")
        return at_stop, result.stdout, torch.load(fold / "checkpoint_final.pth", weights_only=False)

    def test_folds_started_together_make_each_case_once(self, stopped):
        made = [output.count("preprocessing 5 of 5 cases") for output in stopped]
        assert sorted(made) == [0, 1], "\n".join(stopped)

    def test_continues_where_it_stopped(self, continued):
        at_stop, output, final = continued
        assert at_stop["current_epoch"] == 1
        assert final["current_epoch"] == 2
        epochs = [line.split()[-1] for line in output.splitlines() if " Epoch " in line and "time" not in line]
        assert epochs == ["1"]
        assert f"Current learning rate: {round(1e-3 * 0.5**0.9, 5)}" in output
        assert final["logging"]["train_losses"][0] == at_stop["logging"]["train_losses"][0]
        assert len(final["logging"]["lrs"]) == 2
        step = [next(iter(c["optimizer_state"]["state"].values()))["step"] for c in (at_stop, final)]
        assert step == [2, 4]

    def test_predicts_without_sam_file_and_network(self, planned, continued, tmp_path):
        """Images smaller than the patch, of one slice, and larger than the patch, with a tilted geometry."""
        images = tmp_path / "images"
        images.mkdir()
        for name, shape, spacing in (
            ("smaller", (4, 8, 8), (3.0, 2.0, 2.0)),
            ("one_slice", (1, 30, 30), (5.0, 2.0, 2.0)),
            ("larger", (40, 90, 60), (5.0, 2.0, 2.0)),
        ):
            array = np.random.default_rng(0).normal(0, 100, shape)
            tilted = {"direction": (-1, 0, 0, 0, 0, 1, 0, 1, 0), "origin": (-120.0, 30.5, 900.0)}
            write_image(array, images / f"{name}_0000.nii.gz", spacing, **tilted)
        nowhere = {"HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
        assert "TPMAMBA_SAM_CHECKPOINT" not in planned.environment
        predicted = predict(planned, self.NAME, self.TRAINER, images, tmp_path / "out", **nowhere)
        assert len(predicted) == 3
        for path in predicted:
            assert_same_geometry(path, images / path.name.replace(".nii.gz", "_0000.nii.gz"))

    def test_without_sam_file_and_network_it_says_what_to_do(self, planned, stopped, tmp_path):
        nowhere = {"HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
        before = content(planned.preprocessed)
        result = planned.train(self.NAME, "nnUNetTrainerTPMamba", check=False, **nowhere)
        assert result.returncode == 1
        message = result.stderr.splitlines()[-1]
        assert "TPMAMBA_SAM_CHECKPOINT" in message
        assert "nnUNetv2_tpmamba weights" in message
        assert str(tmp_path) in message  # where it looked
        assert content(planned.preprocessed) == before

    def test_a_diverging_training_stops(self, planned, stopped):
        result = planned.train(self.NAME, "nnUNetTrainerTPMamba_tiny_diverging", check=False)
        assert result.returncode == 1
        assert "RuntimeError: the training loss became nan in epoch 0" in result.stderr
        fold = model_folder(planned.results, self.NAME, "nnUNetTrainerTPMamba_tiny_diverging") / "fold_0"
        (log,) = fold.glob("training_log_*.txt")
        assert "the training loss became nan in epoch 0" in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_full_size_trains_and_predicts_without_its_sam_file(real_data, nnunet, tmp_path):
    """The paper's network through the real commands; the SAM file is gone before prediction."""
    name, trainer = TestRealCT.NAME, "nnUNetTrainerTPMamba_short"
    (nnunet.raw / name).symlink_to(real_data / name)
    nnunet.plan(name)
    cases = sorted(path.name[:7] for path in (real_data / name / "labelsTr").iterdir())
    splits = nnunet.preprocessed / name / "splits_final.json"
    splits.write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}]))
    sam = write_meta_checkpoint(tmp_path / "sam_vit_b.pth")
    nnunet.train(name, trainer, timeout=3000, TPMAMBA_SAM_CHECKPOINT=str(sam), nnUNet_def_n_proc="2")
    sam.unlink()

    images = tmp_path / "images"
    images.mkdir()
    image = sorted((real_data / name / "imagesTs").iterdir())[0]
    os.symlink(image, images / image.name)
    nowhere = {"HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
    (predicted,) = predict(nnunet, name, trainer, images, tmp_path / "out", **nowhere)
    assert_same_geometry(predicted, image)
