import pytest

from nnunetv2_tpmamba.comparison.document import Heading, Table
from nnunetv2_tpmamba.comparison.results import Group, Results
from nnunetv2_tpmamba.study.beside_the_paper import beside_the_paper, organs_of, printed_organs
from nnunetv2_tpmamba.trainers import catalogue
from nnunetv2_tpmamba.trainers.paper import ORGANS, REVISITED, organs_of_table_1

ROWS = {name: trainer.row for name, trainer in catalogue.rows().items()}
MONAI_NAMES = ["Spleen", "rKid", "lKid", "gall", "eso", "liv", "sto", "aorta", "IVC", "veins", "pancreas", "rad", "lad"]
TOTALSEGMENTATOR_NAMES = [
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.table == "table 1" and row.dice])
def test_the_mean_of_a_rows_organs_is_the_printed_mean(name):
    for cases, mean in ROWS[name].dice.items():
        organs = printed_organs(ROWS[name], cases)
        assert sum(organs.values()) / len(ORGANS) == pytest.approx(mean, abs=0.1), cases


def test_every_printed_row_of_table_1_belongs_to_a_trainer():
    for cases, printed in organs_of_table_1().items():
        found = [printed_organs(row, cases) for row in ROWS.values() if cases in row.dice]
        assert len(printed) == 11
        assert all(organs in found for organs in printed.values())


def test_what_others_measured_belongs_to_trainers():
    assert {each.trainer for each in REVISITED} <= set(catalogue.trainers())


@pytest.mark.parametrize("names", [ORGANS, MONAI_NAMES, TOTALSEGMENTATOR_NAMES])
def test_btcvs_organs_are_found_by_other_peoples_names(names):
    assert list(organs_of(names).values()) == list(ORGANS)


@pytest.mark.parametrize("names", [ORGANS[:12], (*ORGANS, "duodenum"), (*ORGANS[:12], "duodenum"), (*ORGANS, "Liver")])
def test_other_classes_are_not_btcv(names):
    assert organs_of(names) is None


def results_of(methods, classes, groups):
    folds = [fold for group in groups for fold in group.folds]
    scores = {
        (method, fold, 1): {
            case: {name: {"Dice": 0.5 + 0.01 * index + 0.1 * (case == "b")} for name in classes} for case in ("a", "b")
        }
        for index, method in enumerate(methods)
        for fold in folds
    }
    return Results("", tuple(methods), tuple(classes), dict.fromkeys(classes, 1.0), tuple(groups), {}, scores)


METHODS = ("nnUNetTrainerTestbed_nnUNet", "nnUNetTrainer", "nnUNetTrainerTPMamba_conv3", "nnUNetTrainerTPMamba")
SIX = Group("6 training cases", ("1", "2"), 6)


def test_printed_and_measured_stand_below_each_other():
    shuffled = (*MONAI_NAMES[5:], *MONAI_NAMES[:5])
    blocks = beside_the_paper(results_of(METHODS, shuffled, [SIX, Group("5 training cases", ("3",), 5)]))
    (table, _) = (block for block in blocks if isinstance(block, Table))
    lines = {line[0]: line[1:] for line in table.rows}
    assert table.header == ["", "mean", *shuffled]
    assert list(lines) == [
        f"{name}, {which}"
        for name in ("nnUNet", ROWS["nnUNetTrainerTPMamba_conv3"].name, "TP-Mamba")
        for which in ("printed", "here")
    ]
    assert lines["TP-Mamba, printed"][:2] == ["79.7", "96.4"]  # the mean, and the liver, which comes first here
    assert lines["TP-Mamba, here"] == ["58.0"] * 14
    assert lines["nnUNet, printed"][-5:] == ["84.2", "90.8", "91.0", "42.6", "45.4"]
    assert set(lines[f"{ROWS['nnUNetTrainerTPMamba_conv3'].name}, printed"][1:]) == {"\N{EN DASH}"}
    assert [block.text for block in blocks if isinstance(block, Heading)][1:] == [
        "6 training cases",
        "What others measured, as context",
    ]


def test_of_other_classes_nothing_is_printed():
    blocks = beside_the_paper(results_of(METHODS, ORGANS[:5], [SIX]))
    assert not [block for block in blocks if isinstance(block, Table)]
    assert "this data set has other classes" in blocks[-1].text
