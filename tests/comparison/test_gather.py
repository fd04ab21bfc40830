"""Which folds are compared and how they are grouped, on folders that hold no images."""

import json
import shutil

import pytest

from nnunetv2_tpmamba.comparison.gather import gather_folders, gather_trainings, groups_of
from nnunetv2_tpmamba.comparison.runs import Run
from nnunetv2_tpmamba.comparison.scoring import common_cases, score_runs
from nnunetv2_tpmamba.data.few_shot import few_shot_folds

DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "one": 1}, "file_ending": ".nii.gz"}


class Trainings:
    """Trained folds of some models, without what a comparison does not read before it measures."""

    def __init__(self, root):
        self.preprocessed, self.results = root / "Dataset009_Few", root / "results"
        (self.preprocessed / "gt_segmentations").mkdir(parents=True)
        self.write(self.preprocessed / "dataset.json", DESCRIPTION)
        self.write(self.preprocessed / "splits_final.json", [{"train": ["t"], "val": ["v"]}] * 5)

    @staticmethod
    def write(path, value):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def model(self, trainer):
        return self.results / f"{trainer}__P__C"

    def train(self, trainer, *folds, description=DESCRIPTION):
        self.write(self.model(trainer) / "dataset.json", description)
        self.write(self.model(trainer) / "plans.json", {"label_manager": "LabelManager"})
        for fold in folds:
            self.write(self.model(trainer) / f"fold_{fold}" / "validation" / "summary.json", {})
            (self.model(trainer) / f"fold_{fold}" / "validation" / "v.nii.gz").touch()

    def gather(self, *trainers, folds=None):
        models = {name: (name, "P", "C") for name in trainers}
        return gather_trainings(models, self.preprocessed, [self.results], folds)


@pytest.fixture
def trainings(tmp_path):
    return Trainings(tmp_path)


def folds_of(gathered):
    return [group.folds for group in gathered.groups]


class TestFoldAll:
    SCORED = "Fold all is scored on the cases it was trained on."

    def test_is_left_out_unasked(self, trainings):
        trainings.train("A", 0, 1, "all")
        gathered = trainings.gather("A")
        assert folds_of(gathered) == [("0", "1")]
        assert {run.fold for run in gathered.runs} == {"0", "1"}
        assert gathered.notes == (
            "Fold all is left out: it is scored on the cases it was trained on (-f all shows it).",
        )

    def test_is_shown_where_it_is_the_only_one(self, trainings):
        trainings.train("A", 0, "all")
        trainings.train("B", "all")
        gathered = trainings.gather("A", "B")
        assert folds_of(gathered) == [("all",)]
        assert self.SCORED in gathered.notes

    def test_is_never_averaged_with_others(self, trainings):
        trainings.train("A", 0, 1, "all")
        gathered = trainings.gather("A", folds=["all", "0", "1"])
        assert folds_of(gathered) == [("0", "1"), ("all",)]
        assert gathered.notes == (self.SCORED,)


FEW_SHOT = few_shot_folds({name: {"one"} for name in "abcdef"}, ["f"], [2, 3], 2, seed=0)
SPLITS = [fold.split() for fold in FEW_SHOT]


class TestGroups:
    @pytest.fixture
    def protocol(self, tmp_path):
        path = tmp_path / "fewshot.json"
        path.write_text(json.dumps({"folds": [fold.as_json() for fold in FEW_SHOT]}))
        return path

    def test_by_number_of_training_cases(self, protocol):
        groups, notes = groups_of(protocol, ["0", "1", "2", "3", "4"], SPLITS)
        assert notes == ()
        assert [(group.training_cases, group.folds, group.draws) for group in groups] == [
            (5, ("0",), {}),
            (3, ("3", "4"), {"3": 1, "4": 2}),
            (2, ("1", "2"), {"1": 1, "2": 2}),
        ]

    @pytest.mark.parametrize("unknown", ["all", "7"])
    def test_a_fold_that_is_not_in_the_table_is_alone(self, protocol, unknown):
        groups, _ = groups_of(protocol, [unknown, "1", "2", "3"], SPLITS)
        assert [(group.title, group.training_cases, group.folds) for group in groups] == [
            ("3 training cases", 3, ("3",)),
            ("2 training cases", 2, ("1", "2")),
            (f"fold {unknown}", None, (unknown,)),
        ]

    def test_a_protocol_of_other_splits_is_not_used(self, protocol):
        (group,), notes = groups_of(protocol, ["1", "2", "3"], SPLITS[:-1])
        assert group.title == "3 folds"
        assert notes == ("fewshot.json does not belong to the present splits_final.json and is not used.",)

    @pytest.mark.parametrize("damaged", ["{", '{"folds": [{}]}'])
    def test_a_damaged_protocol_is_not_used(self, protocol, damaged):
        protocol.write_text(damaged)
        (group,), notes = groups_of(protocol, ["0", "1", "2", "3", "4"], SPLITS)
        assert group.title == "5 folds"
        assert notes == ("fewshot.json does not belong to the present splits_final.json and is not used.",)


def test_damaged_splits_are_said(trainings):
    trainings.train("A", 0)
    (trainings.preprocessed / "splits_final.json").write_text("[{")
    assert "splits_final.json is damaged, so it is not known" in trainings.gather("A").notes[0]


def test_validation_on_training_cases_is_said(trainings):
    trainings.train("A", 0)
    trainings.write(trainings.preprocessed / "splits_final.json", [{"train": ["v"], "val": ["t"]}])
    assert "lists v for training of fold 0, but A validated" in trainings.gather("A").notes[0]


def test_differences_between_trainings_are_said(trainings):
    trainings.train("A", 0)
    trainings.train("B", 0)
    for trainer, number in (("A", "250"), ("B", "25")):
        trainings.write(trainings.model(trainer) / "fold_0" / "debug.json", {"num_iterations_per_epoch": number})
        trainings.write(trainings.model(trainer) / "dataset_fingerprint.json", {"spacings": number})
    first, second = trainings.gather("A", "B").notes
    assert first == "The trainings differ in iterations per epoch. A: 250; B: 25."
    assert "different states of the dataset" in second


def test_a_fold_is_given_once(trainings):
    trainings.train("A", 0)
    with pytest.raises(ValueError, match="-f 0 0: give every fold once"):
        trainings.gather("A", folds=["0", "0"])


@pytest.mark.parametrize("place", ["preprocessed", "model"])
@pytest.mark.parametrize(
    ("value", "message"), [([1], "holds no object"), ({"labels": {"background": 0}}, "has no 'file_ending'")]
)
def test_a_dataset_json_that_cannot_be_used_is_named(trainings, place, value, message):
    trainings.train("A", 0)
    folder = trainings.preprocessed if place == "preprocessed" else trainings.model("A")
    trainings.write(folder / "dataset.json", value)
    with pytest.raises(ValueError, match=f"{folder / 'dataset.json'} {message}"):
        trainings.gather("A")


def test_labels_that_nnunet_cannot_use_are_named(trainings):
    trainings.train("A", 0, description=DESCRIPTION | {"labels": {"one": 1}})
    with pytest.raises(ValueError, match=f"nnU-Net cannot use the labels in {trainings.model('A')}/dataset.json"):
        trainings.gather("A")


def test_a_missing_folder_of_the_truth_is_named(trainings, tmp_path):
    trainings.train("A", 0)
    (trainings.preprocessed / "gt_segmentations").rmdir()
    with pytest.raises(ValueError, match="gt_segmentations, the folder of the truth, does not exist; preprocess"):
        trainings.gather("A")
    with pytest.raises(ValueError, match=r"--reference .*/absent is no folder; give the folder of the truth"):
        gather_folders({"a": tmp_path}, tmp_path / "absent", DESCRIPTION)


def test_a_class_that_is_called_as_the_mean_is_refused(tmp_path):
    labels = {"background": 0, "mean": 1}
    gathered = gather_folders({"a": tmp_path}, tmp_path, DESCRIPTION | {"labels": labels})
    with pytest.raises(ValueError, match=r"a class is called 'mean', .* give it another name"):
        score_runs(gathered, {"mean": 1.0}, 1, tmp_path)


def test_plain_folders_need_a_whole_dataset_json(tmp_path):
    with pytest.raises(ValueError, match=r"dataset.json has no 'labels'"):
        gather_folders({"a": tmp_path}, tmp_path, {"file_ending": ".nii.gz"})


def test_a_case_that_one_of_three_methods_lacks_is_left_out_of_all(tmp_path):
    truths = {case: tmp_path / case for case in "vwx"}
    runs = [
        Run(method, "0", {case: tmp_path / case for case in cases})
        for method, cases in zip("abc", ["vwx", "vw", "w"], strict=True)
    ]
    jobs, notes = common_cases(runs, truths, tmp_path)
    assert [(run.method, case) for run, case in jobs] == [("a", "w"), ("b", "w"), ("c", "w")]
    assert notes == (
        "a has the cases v, x of fold 0, which another method lacks; they are left out.",
        "b has the cases v of fold 0, which another method lacks; they are left out.",
    )


class TestRepeats:
    def repeat(self, trainings, *folds, case="v"):
        """A second folder of results of A; where it is."""
        again = trainings.results / "repeat_2"
        shutil.copytree(trainings.model("A"), again / "A__P__C")
        for fold in folds:
            shutil.rmtree(again / "A__P__C" / f"fold_{fold}")
        for path in again.glob("A__P__C/fold_*/validation/v.nii.gz"):
            path.rename(path.with_name(f"{case}.nii.gz"))
        return again

    def gather(self, trainings, again):
        return gather_trainings({"A": ("A", "P", "C")}, trainings.preprocessed, [trainings.results, again], None)

    def test_all_have_their_number(self, trainings):
        trainings.train("A", 0, 1)
        gathered = self.gather(trainings, self.repeat(trainings))
        assert [(run.fold, run.repeat) for run in gathered.runs] == [("0", 1), ("1", 1), ("0", 2), ("1", 2)]
        assert gathered.title == "Dataset009_Few: A, 2 repeats"
        assert {path.parts[-5] for run in gathered.runs[2:] for path in run.predictions.values()} == {"repeat_2"}

    def test_a_fold_that_one_lacks_is_left_out(self, trainings):
        trainings.train("A", 0, 1)
        gathered = self.gather(trainings, self.repeat(trainings, 1))
        assert folds_of(gathered) == [("0",)]
        assert f"Fold 1 is left out: A in {trainings.results} was not trained." in gathered.notes

    def test_other_cases_are_refused(self, trainings):
        trainings.train("A", 0)
        with pytest.raises(ValueError, match=r"repeat 2 of A, fold 0, .* not validated on the same cases: v, w only"):
            self.gather(trainings, self.repeat(trainings, case="w"))
