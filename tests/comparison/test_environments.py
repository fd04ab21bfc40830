"""Which differences between trainings' environments the report notes, and what its table shows."""

from dataclasses import replace

from nnunetv2_tpmamba.comparison.environments import different_environments, environment_table
from nnunetv2_tpmamba.comparison.results import Group, Results
from nnunetv2_tpmamba.comparison.runs import Run

SAM = {"torch": "2.9", "device": "A100", "encoder": "Meta SAM ViT-B", "encoder_sha256": "0123456789abcdef"}
OURS = Run("ours", "0", {}, environment=SAM)
STOCK = Run("stock", "0", {}, environment={"torch": "2.9", "device": "A100"})


def test_what_is_not_known_differs_from_nothing():
    assert different_environments([OURS, STOCK, Run("folder", "", {})]) == []


def test_what_differs_is_named():
    other = replace(STOCK, environment={"torch": "2.8", "device": "H100"})
    assert different_environments([OURS, other]) == ["The trainings differ in PyTorch, device; see Environment."]
    renamed = replace(OURS, environment=SAM | {"encoder": "unknown SAM ViT-B"})
    assert different_environments([OURS, renamed]) == []
    trained_on = replace(OURS, environment=SAM | {"encoder_sha256": "f" * 16})
    assert "weights of the encoder" in different_environments([OURS, trained_on])[0]


def test_the_table_has_what_is_known_of_any_training():
    second = replace(OURS, environment=SAM | {"device": "H100"})
    runs = {("ours", "0", 1): OURS, ("ours", "1", 1): second, ("stock", "0", 1): STOCK}
    table = environment_table(Results("", ("ours", "stock"), (), {}, (Group("", ("0", "1")),), runs, {}))
    assert table.header == ["", "PyTorch", "device", "weights of the encoder"]
    assert table.rows == [
        ["ours", "2.9", "A100, H100", "Meta SAM ViT-B 0123456789ab"],
        ["stock", "2.9", "A100", "none logged"],
    ]
