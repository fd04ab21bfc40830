"""The verb preprocess."""

import argparse
import json
import shutil

import pytest
from support.plans import stock_plans
from support.preprocessed_datasets import DATASET, SequentialPool, three_cases

from nnunetv2_tpmamba.cli import preprocess
from nnunetv2_tpmamba.data import workers


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ProcessPoolExecutor", SequentialPool)
    return three_cases(tmp_path)


class TestCommand:
    @pytest.fixture
    def run(self, dataset, monkeypatch):
        monkeypatch.setenv("nnUNet_raw", str(dataset.raw.parent))
        monkeypatch.setenv("nnUNet_preprocessed", str(dataset.preprocessed.parent))
        monkeypatch.delenv("nnUNet_results", raising=False)

        def run(*arguments):
            parser = argparse.ArgumentParser()
            preprocess.add_arguments(parser)
            return preprocess.run(parser.parse_args(arguments))

        return run

    @pytest.mark.parametrize("name", ["1", "001", DATASET])
    def test_says_where_the_data_are_and_how_to_train(self, run, dataset, capsys, name):
        shutil.rmtree(dataset.folder)
        assert run("-d", name, "-np", "1") == 0
        printed = capsys.readouterr().out
        assert "preprocessing 3 of 3 cases" in printed
        assert f"are in {dataset.folder}" in printed
        assert f"nnUNetv2_train {DATASET} 3d_fullres 0 -tr nnUNetTrainerTPMamba\n" in printed

    def test_other_plans(self, run, dataset, capsys):
        (dataset.preprocessed / "Mine.json").write_text(json.dumps(stock_plans(plans_name="Mine")))
        assert run("-d", "1", "-c", "3d_fullres", "-p", "Mine") == 0
        assert "-tr nnUNetTrainerTPMamba -p Mine\n" in capsys.readouterr().out

    def test_makes_what_a_training_uses(self, run, dataset):
        before = dataset.made_at()
        run("-d", "1", "1")
        assert dataset.made_at() == before

    def test_unknown_dataset(self, run):
        for name in ("77", "Dataset077_None"):
            with pytest.raises(
                ValueError, match=rf"there is no dataset {name} in nnUNet_preprocessed \(.*; check the id"
            ):
                run("-d", name)

    def test_neither_id_nor_name(self, run):
        with pytest.raises(ValueError, match="dataset 'liver': give an id such as 702 or a name"):
            run("-d", "liver")

    def test_id_of_two_datasets(self, run, dataset):
        (dataset.raw.parent / "Dataset001_Twin").mkdir()
        with pytest.raises(
            ValueError, match="several datasets have the id 1: Dataset001_Test, Dataset001_Twin; give the"
        ):
            run("-d", "1")

    def test_not_planned_yet(self, run, dataset):
        (dataset.raw.parent / "Dataset002_New").mkdir()
        for name in ("2", "Dataset002_New"):
            with pytest.raises(
                FileNotFoundError, match=r"nnUNetPlans.json does not exist; .*nnUNetv2_plan_and_preprocess -d 2"
            ):
                run("-d", name)

    def test_2d(self, run):
        with pytest.raises(ValueError, match="'2d' is 2D"):
            run("-d", "1", "-c", "2d")

    def test_variables_not_set(self, run, dataset, monkeypatch):
        shutil.rmtree(dataset.folder)
        monkeypatch.delenv("nnUNet_raw")
        with pytest.raises(FileNotFoundError, match="nnUNet_raw is not set"):
            run("-d", "1")
        monkeypatch.delenv("nnUNet_preprocessed")
        with pytest.raises(OSError, match="the environment variable nnUNet_preprocessed is not set"):
            run("-d", "1")
