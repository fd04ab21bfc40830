"""Write few-shot splits for a preprocessed dataset: read its classes, resolve the test cases, keep earlier splits."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from nnunetv2_tpmamba.comparison.label_maps import read, reader_of
from nnunetv2_tpmamba.data.cases import TRUTH, labels_of_present_cases
from nnunetv2_tpmamba.data.dataset_json import read_description
from nnunetv2_tpmamba.data.few_shot import PROTOCOL, Fold, choose_test, few_shot_folds, number_of_test_cases, table
from nnunetv2_tpmamba.data.folders import find_raw, find_results
from nnunetv2_tpmamba.data.labels import Labels
from nnunetv2_tpmamba.data.manifest import name_some
from nnunetv2_tpmamba.data.splits import SPLITS, locked_split
from nnunetv2_tpmamba.files import whole_or_absent

TABLE = "fewshot.md"


def draw_folds(folder: Path, test: Sequence[str], sizes: Sequence[int], draws: int, seed: int) -> list[Fold]:
    """Read the labels of a dataset and draw its folds; write nothing.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        test: the option ``--test``, see :func:`resolve_test_cases`.
        sizes, draws, seed: the options ``-n``, ``--draws`` and ``--seed``, see
            :func:`~nnunetv2_tpmamba.data.few_shot.few_shot_folds`.

    Raises:
        FileNotFoundError: the dataset was not preprocessed.
        ValueError: the options ask for what is not possible, or a file is damaged.
    """
    if draws < 1:
        raise ValueError(f"--draws {draws}: give at least 1")
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"-n {' '.join(map(str, sizes))}: give every number once")
    classes = classes_of_cases(folder)
    return few_shot_folds(classes, resolve_test_cases(test, classes, seed), sizes, draws, seed)


def classes_of_cases(folder: Path, log: Callable[[str], None] = print) -> dict[str, set[str]]:
    """Read which classes or regions of ``dataset.json`` the label map of each case holds, and show the progress.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        log: receives what the user should know.

    Raises:
        FileNotFoundError: the dataset was not preprocessed.
        ValueError: ``dataset.json`` or a label map is damaged.
    """
    truth = folder / TRUTH
    if not (folder / "dataset.json").is_file() or not truth.is_dir():
        raise FileNotFoundError(
            f"{truth} does not exist; preprocess the dataset first: nnUNetv2_plan_and_preprocess -d "
            f"{int(folder.name[7:10])} (or, if it is planned, nnUNetv2_tpmamba preprocess)"
        )
    description = read_description(folder / "dataset.json")
    ending = description["file_ending"]
    files, gone = labels_of_present_cases(folder, find_raw(folder.name), description)
    if not files:
        raise FileNotFoundError(f"{truth} holds no file that ends with {ending}; preprocess the dataset again")
    if gone:
        log(f"{truth} holds labels of cases that are not in nnUNet_raw any more; left out: {name_some(gone)}")
    reader = reader_of(description, files.values())
    labels = Labels.of(description, source=folder / "dataset.json")
    classes = {}
    for case, file in tqdm(files.items(), desc="Reading labels", unit="case", disable=None):
        classes[case] = labels.held(read(file, reader).labels)
    return classes


def resolve_test_cases(test: Sequence[str], classes: Mapping[str, Collection[str]], seed: int) -> tuple[str, ...]:
    """Return the cases that ``test`` names, or as many random ones as its one number says.

    Args:
        test: names of cases; or one number of cases, or one fraction of all cases, as text.
        classes: names of the classes in each case.
        seed: of the random choice.

    Raises:
        ValueError: a case is unknown, no training case is left, or a name could also be a number.
    """
    if len(test) == 1 and test[0] in classes and _is_number(test[0]):
        raise ValueError(
            f"--test {test[0]} is a number and the name of a case; for the number write {float(test[0]):.3f}, for the "
            f"case give its name twice: --test {test[0]} {test[0]}"
        )
    unknown = [name for name in test if name not in classes]
    if not unknown:
        if len(set(test)) == len(classes):
            raise ValueError(f"--test names all {len(classes)} cases, which leaves no training case")
        return tuple(dict.fromkeys(test))
    try:
        (number,) = map(float, test)
    except ValueError:
        raise ValueError(
            f"--test: there is no case {', '.join(unknown)}; give a number of cases, a fraction below 1, or names such "
            f"as {next(iter(classes))}"
        ) from None
    return choose_test(classes, number_of_test_cases(number, len(classes)), seed)


def write_splits(
    folder: Path, folds: Sequence[Fold], seed: int, log: Callable[[str], None], restore: bool = False
) -> None:
    """Write ``splits_final.json``, the protocol and the table; keep earlier splits as a backup.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        folds: the folds, in order.
        seed: what the folds were drawn with, for the protocol.
        log: receives what the user should know.
        restore: the present results are known to be on these folds, so a ``splits_final.json`` that was deleted is
            written again.

    Raises:
        FileExistsError: there are results for other splits; nothing was changed.
        OSError: the folder cannot be written, or nnUNet_results is not set.
    """
    path, protocol = folder / SPLITS, folder / PROTOCOL
    with locked_split(folder, log):
        if not holds_splits(path, folds):
            trained = [] if restore and not path.exists() else folds_with_results(folder.name)
            if trained:
                splits = "the present splits" if path.exists() else f"splits that are gone ({path} is missing)"
                planned = f"if all of them are on the planned folds, delete {path}; else " if restore else ""
                raise FileExistsError(
                    f"there are results for {splits}: {', '.join(map(str, trained))}; {planned}move these elsewhere, "
                    "or copy the dataset to another id. Nothing was changed"
                )
            if path.is_file():
                log(f"{path} was there; it is kept as {back_up(path).name}")
            _write(path, json.dumps([fold.split() for fold in folds], indent=4))
        _write(protocol, json.dumps({"seed": seed, "folds": [fold.as_json() for fold in folds]}, indent=1))
        _write(folder / TABLE, table(folds) + "\n")
    log(f"{len(folds)} folds are in {path}, what they are in {protocol.name} and {TABLE} beside it\n")


def folds_with_results(dataset_name: str) -> list[Path]:
    """Find the folders of trainings on a fold of the splits that ended an epoch or validated, repeats included.

    ``fold_all`` is left out, because it uses no split.

    Raises:
        OSError: nnUNet_results is not set, so such folders cannot be looked for.
    """
    results = find_results()
    places = [results, *sorted(results.glob("repeat_*"))]
    folds = [fold for place in places for fold in sorted((place / dataset_name).glob("*__*__*/fold_[0-9]*"))]
    return [fold for fold in folds if any(fold.glob("checkpoint_*.pth")) or (fold / "validation").is_dir()]


def back_up(path: Path) -> Path:
    """Rename a file to the first free one of ``NAME.backup-1.json``, ``-2`` and so on; return its new path."""
    number = 1
    while (backup := path.with_name(f"{path.stem}.backup-{number}{path.suffix}")).exists():
        number += 1
    return path.rename(backup)


def holds_splits(path: Path, folds: Sequence[Fold]) -> bool:
    """Whether a ``splits_final.json`` holds these folds."""
    try:
        return json.loads(path.read_text()) == [fold.split() for fold in folds]
    except (OSError, ValueError):  # it is absent, or damaged and will be backed up and replaced
        return False


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _write(path: Path, text: str) -> None:
    with whole_or_absent(path) as unfinished:
        unfinished.write_text(text)
