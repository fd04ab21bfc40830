"""The trainers of a study, from the names of the paper's tables and of trainers, and what they need."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_tpmamba.data.dataset_json import read_description, read_json
from nnunetv2_tpmamba.data.plans import derive_plans
from nnunetv2_tpmamba.trainers import catalogue
from nnunetv2_tpmamba.trainers.testbed import nnUNetTrainerTestbed
from nnunetv2_tpmamba.trainers.tpmamba import nnUNetTrainerTPMamba

TABLES = {"table1": "table 1", "table2": "table 2", "table3": "table 3", "table4": "table 4", "adapters": "figure 1(c)"}
"""What a user names, and what :class:`~nnunetv2_tpmamba.trainers.row.Row` says."""
FIRST_TABLE = "table1"

Trainer = type[nnUNetTrainer]


def trainers_of(names: Sequence[str]) -> dict[str, Trainer]:
    """Return the trainers that ``names`` ask for, each once.

    ``table1`` is every trainer of a row with a Dice in table 1, both U-Mambas among them, and stock nnU-Net, which the
    paper does not have, as the baseline that everybody knows. Tables 2 to 4 and the adapters of figure 1(c) are their
    ablations and the full method, which is a row of each.

    Args:
        names: keys of ``TABLES``, or names of trainers that nnU-Net finds.

    Raises:
        ValueError: a name is neither.
    """
    found: dict[str, Trainer] = {}
    for name in names:
        found |= _of_table(name) if name in TABLES else {name: _find(name)}
    return found


def check_needs(trainers: Mapping[str, Trainer]) -> None:
    """Refuse trainers that cannot start here.

    Raises:
        RuntimeError: a package or SAM's file is missing; the message names the trainers and what to do.
    """
    missing: dict[str, list[str]] = {}
    for name, trainer in trainers.items():
        if issubclass(trainer, nnUNetTrainerTestbed) and (reason := catalogue.missing_for(trainer)):
            missing.setdefault(reason, []).append(name)
    if missing:
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in missing.items())
        raise RuntimeError(f"not every row can be trained here: {reasons}. Get these, or name other --rows")


def check_plans(folder: Path, trainers: Mapping[str, Trainer], configuration: str, plans: str) -> None:
    """Refuse plans on which a trainer of this package cannot train.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        configuration, plans: names, as nnU-Net's commands take them.

    Raises:
        FileNotFoundError: there are no such plans.
        ValueError: they are damaged, or have no such configuration, or a 2D one or part of a cascade.
    """
    file = folder / f"{plans}.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; plan the dataset with nnUNetv2_plan_and_preprocess -d {int(folder.name[7:10])}, "
            "or name its plans with -p"
        )
    if any(issubclass(trainer, nnUNetTrainerTestbed) for trainer in trainers.values()):
        derive_plans(read_json(file), configuration, read_description(folder / "dataset.json"))


def _of_table(name: str) -> dict[str, Trainer]:
    if name == FIRST_TABLE:
        stock: dict[str, Trainer] = {nnUNetTrainer.__name__: nnUNetTrainer}
        return catalogue.rows_of_table_1() | stock
    rows = {key: row for key, row in catalogue.rows().items() if row.row and row.row.table == TABLES[name]}
    return {nnUNetTrainerTPMamba.__name__: nnUNetTrainerTPMamba} | rows


def _find(name: str) -> Trainer:
    known = {nnUNetTrainer.__name__: nnUNetTrainer} | catalogue.trainers()
    if name in known:
        return known[name]
    try:
        with redirect_stdout(StringIO()):  # nnU-Net prints where it searches
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        raise ValueError(
            f"--rows {name}: neither one of {', '.join(TABLES)} nor a trainer that nnU-Net finds in its own folders or "
            "in nnUNet_extTrainer; nnUNetv2_tpmamba trainers lists those of this package"
        ) from error
