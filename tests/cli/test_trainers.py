"""The verb trainers, and which of them README and reference list."""

import re

import pytest
from support.nnunet import REPOSITORY

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.trainers import ablations, catalogue
from nnunetv2_tpmamba.trainers.catalogue import describe, rows, trainers


@pytest.fixture(scope="module")
def listed():
    """What the verb says of each trainer."""
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("builtins.print", lambda text="", **options: said.append(text))
        assert cli.main(["trainers"]) == 0
    blocks = "\n".join(said).split("\n\n")
    return {name: text for name, _, text in (block.strip().partition("\n") for block in blocks) if text}


def test_every_trainer_says_what_it_is(listed):
    assert list(listed) == list(trainers())
    for name, text in listed.items():
        assert re.search(r"^    \S.*\.\n    parameters: [\d,]+, trained: [\d,]+; needs a \S", text, re.DOTALL), name


@pytest.mark.parametrize(
    ("name", "parameters", "trained"),
    [
        ("nnUNetTrainerTPMamba", "105,531,854", "16,648,398"),
        ("nnUNetTrainerTPMamba_scratch", "105,531,854", "105,531,854"),
        ("nnUNetTrainerTestbed_nnUNet", "16,553,400", "16,553,400"),
    ],
)
def test_parameters_are_counted(listed, name, parameters, trained):
    assert f"parameters: {parameters}, trained: {trained};" in listed[name]


@pytest.mark.parametrize("name", trainers())
def test_what_sams_file_is_needed_for(name):
    trainer = trainers()[name]
    pretrained = hasattr(trainer, "config") and trainer.config.pretrained
    assert ("SAM" in trainer.needs) == pretrained


def test_trainers_that_differ_in_epochs_share_their_network(monkeypatch):
    built = []
    networks = [catalogue._Network.of(trainer) for trainer in trainers().values()]
    assert len(set(networks)) < len(networks) - 6
    monkeypatch.setattr(catalogue, "parameters_of", lambda network: built.append(network) or (2, 1))
    catalogue._sizes.cache_clear()
    names = ["nnUNetTrainerTPMamba_demo", "nnUNetTrainerTPMamba_1epoch", "nnUNetTrainerTPMamba_5epochs"]
    try:
        assert {describe(trainers()[name], 1, 2).parameters for name in names} == {2}
    finally:
        catalogue._sizes.cache_clear()
    assert len(built) == 2


def test_what_is_not_installed_is_said_and_the_others_are_listed(monkeypatch, capsys):
    def missing():
        raise ImportError("this network is MONAI's, which is not installed: pip install monai")

    trainer = trainers()["nnUNetTrainerTestbed_nnUNet"]
    monkeypatch.setattr(trainer, "check_installed", missing)
    monkeypatch.setattr(catalogue, "trainers", lambda: {"A": trainer, "B": trainers()["nnUNetTrainerTPMamba_demo"]})
    assert cli.main(["trainers"]) == 0
    first, second, _ = capsys.readouterr().out.split("\n\n")
    assert "parameters: not known, because this network is MONAI's, which is not installed: pip" in first
    assert re.search(r"parameters: [\d,]+, trained", second)


def test_facts_follow_the_data():
    few, many = (describe(trainers()["nnUNetTrainerTPMamba_demo"], 1, classes).parameters for classes in (2, 14))
    assert many > few


def named_in_the_table_of(page):
    names = []
    for row in re.findall(r"^\| (`nnUNetTrainerT.*?) \|", (REPOSITORY / page).read_text(), re.MULTILINE):
        first, *others = re.findall(r"`(\w+)`", row)
        stem = first.rpartition("_")[0]
        names += [first, *(stem + other for other in others)]
    assert len(names) == len(set(names))
    return set(names)


def test_the_reference_lists_every_trainer():
    assert named_in_the_table_of("docs/reference.md") == set(trainers())


def test_the_readme_lists_the_networks_that_the_papers_first_table_prints():
    printed = {name for name, trainer in rows().items() if trainer.row.table == "table 1" and trainer.row.dice}
    assert printed < named_in_the_table_of("README.md") < set(trainers())
    count = sum(trainer.__module__ == ablations.__name__ for trainer in trainers().values())
    assert f"`nnUNetTrainerTPMamba_nomamba` and {count - 1} others" in (REPOSITORY / "README.md").read_text()
