"""The cases of a dataset: which there are, which files belong to each, and which names nnU-Net cannot take."""

import os
import re
import shlex
from collections.abc import Collection, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

TRUTH = "gt_segmentations"  # nnU-Net's folder of the training labels, among the preprocessed data
LABEL_SUFFIX = "_seg"  # nnU-Net stores a case in CASE.b2nd and its labels in CASE_seg.b2nd
NIFTI_SUFFIXES = (".nii", ".nii.gz", ".img", ".img.gz", ".hdr", ".hdr.gz", ".nia", ".nia.gz")
APPLE_DOUBLE = b"\x00\x05\x16\x07"  # how macOS's ._ files begin
HEADERS = (".mhd", ".nhdr", ".hdr")  # their voxels lie in another file


class RawCase(NamedTuple):
    """The raw files of a training case."""

    images: list[str]
    label: str

    @property
    def paths(self) -> list[str]:
        """Every file that decides what a reader reads; the label map is the last."""
        spacings = [spacing_file(self.images[0], is_image=True)] if self.images else []
        beside = [file for file in (*spacings, spacing_file(self.label)) if file is not None]
        return [*beside, *self.images, self.label]


def training_cases(raw_folder: Path, dataset_json: Mapping[str, Any]) -> dict[str, RawCase]:
    """List the training cases of a raw dataset, and check their names and that their files are there.

    Args:
        raw_folder: the dataset's folder in nnUNet_raw.
        dataset_json: the dataset's description.

    Raises:
        FileNotFoundError: a case lacks its label, or a file that dataset.json lists.
        ValueError: a case has a name that nnU-Net cannot take, or a file is none.
    """
    if dataset_json["file_ending"].lower() in HEADERS:
        raise ValueError(
            f"{dataset_json['file_ending']} files keep their voxels in another file, which nnU-Net does not copy with "
            "the labels, so that its validation fails; convert the images and labels to .nii.gz, .nrrd or .mha"
        )
    cases = listed_cases(raw_folder, dataset_json)
    check_names(cases, dataset_json["file_ending"])
    check_files(cases)
    return cases


def listed_cases(raw_folder: Path, dataset_json: Mapping[str, Any], part: str = "Tr") -> dict[str, RawCase]:
    """List the cases of a raw dataset as nnU-Net does, without looking whether their files exist.

    Args:
        raw_folder: the dataset's folder in nnUNet_raw.
        dataset_json: the dataset's description; the training cases may be listed in it.
        part: ``Tr`` for the training cases, ``Ts`` for those in imagesTs and labelsTs.

    Raises:
        ValueError: the list in dataset.json does not give each case its images and its label.
    """
    if part == "Tr" and "dataset" in dataset_json:
        check_list(dataset_json["dataset"])
        listed = get_filenames_of_train_images_and_targets(str(raw_folder), deepcopy(dict(dataset_json)))
        return {case: RawCase(files["images"], files["label"]) for case, files in listed.items()}
    ending = dataset_json["file_ending"]
    cases: dict[str, RawCase] = {}
    for image in sorted((raw_folder / f"images{part}").glob(f"*{ending}")):
        if (match := re.fullmatch(rf"(.+)_\d{{4}}{re.escape(ending)}", image.name, re.DOTALL)) and not image.is_dir():
            label = raw_folder / f"labels{part}" / f"{match[1]}{ending}"
            cases.setdefault(match[1], RawCase([], str(label))).images.append(str(image))
    return cases


def check_list(listed: Any) -> None:
    """Raise ValueError unless a ``dataset`` entry of dataset.json is as nnU-Net needs it."""
    if not isinstance(listed, dict):
        raise ValueError("dataset.json has an entry 'dataset' that is no object; nnU-Net takes one object per case")
    for case, files in listed.items():
        images, label = (files.get(key) if isinstance(files, dict) else None for key in ("images", "label"))
        if not (
            isinstance(images, list) and all(isinstance(image, str) for image in images) and isinstance(label, str)
        ):
            raise ValueError(
                f"dataset.json lists the case {case} without a list of 'images' and a 'label'; give the path of each"
            )
        if not case or "/" in case or os.sep in case:
            raise ValueError(f"dataset.json lists a case named {case!r}, of which no file can be named; rename it")


def check_names(cases: Collection[str], ending: str) -> None:
    """Refuse names of cases that nnU-Net takes, and whose files it then mixes up or does not find.

    Args:
        cases: the names.
        ending: how the names of label maps end.

    Raises:
        ValueError: the image of one case would be stored in the file of another case's labels, or the predictions of a
            case in a file of another name.
    """
    for case in sorted(cases):
        if f"{case}{LABEL_SUFFIX}" in cases:
            raise ValueError(
                f"the cases {case} and {case}{LABEL_SUFFIX} cannot be in one dataset: nnU-Net stores the labels of "
                f"{case} and the image of {case}{LABEL_SUFFIX} in the same file, {case}{LABEL_SUFFIX}.b2nd; rename the "
                f"files of {case}{LABEL_SUFFIX}, for nnU-Net's own trainings too"
            )
        if ending == ".nii.gz" and case.lower().endswith(NIFTI_SUFFIXES):
            raise ValueError(
                f"the case {case} has a name that ends with a suffix of NIfTI files: SimpleITK writes its prediction "
                f"not to {case}{ending} but without that suffix, where nnU-Net's validation does not find it; rename "
                "its files, for nnU-Net's own trainings too"
            )


def check_files(cases: Mapping[str, RawCase]) -> None:
    """Check that the files of all cases are there.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is one that macOS made.
    """
    for case, files in cases.items():
        for path in (*files.images, files.label):
            if not os.path.isfile(path):
                raise FileNotFoundError(f"case {case}: {path} does not exist; restore it or remove the case")
            refuse_apple_double(Path(path))


def taken_for_labels(cases: Collection[str]) -> list[str]:
    """The cases that nnU-Net takes for the labels of others, by their names, and leaves out of its own splits."""
    return sorted(case for case in cases if case.endswith(LABEL_SUFFIX))


def files_of_cases(folder: Path, ending: str) -> dict[str, Path]:
    """The label maps in a folder, by the name of the case.

    Args:
        ending: how the names of label maps end.

    Raises:
        ValueError: a file is one that macOS made.
    """
    files = {path.name.removesuffix(ending): path for path in sorted(folder.iterdir()) if path.name.endswith(ending)}
    for path in files.values():
        refuse_apple_double(path)
    return files


def labels_of_present_cases(
    preprocessed: Path, raw_folder: Path | None, dataset_json: Mapping[str, Any]
) -> tuple[dict[str, Path], list[str]]:
    """The label maps among a dataset's preprocessed data, and the cases whose labels are there but that are gone.

    nnU-Net copies the labels there and removes none. A case is gone if there are raw data and it is not among them.

    Args:
        preprocessed: the dataset's folder in nnUNet_preprocessed.
        raw_folder: the dataset's folder in nnUNet_raw, None if nnUNet_raw is not set.
        dataset_json: the dataset's description.
    """
    files = files_of_cases(preprocessed / TRUTH, dataset_json["file_ending"])
    raw = listed_cases(raw_folder, dataset_json) if raw_folder is not None else {}
    gone = [case for case in files if raw and case not in raw]
    return {case: file for case, file in files.items() if case not in gone}, gone


def find_images(raw_folder: Path | None, dataset_json: Mapping[str, Any]) -> dict[str, Path]:
    """The image of each training case, or the first channel of it; there are none where the raw data are absent."""
    cases = listed_cases(raw_folder, dataset_json) if raw_folder is not None else {}
    return {case: Path(files.images[0]) for case, files in cases.items() if files.images}


def images_in(folder: Path, ending: str) -> dict[str, Path]:
    """The first channel of each case whose images lie in a folder."""
    first = f"_0000{ending}"
    return {path.name.removesuffix(first): path for path in sorted(folder.iterdir()) if path.name.endswith(first)}


def refuse_apple_double(path: Path) -> None:
    """Raise ValueError for a file that macOS puts beside each file it writes where it cannot keep its attributes."""
    if not path.name.startswith("._") or not path.is_file():
        return
    with path.open("rb") as file:
        if file.read(len(APPLE_DOUBLE)) == APPLE_DOUBLE:
            raise ValueError(
                f"{path} is no image: macOS wrote it beside {path.name[2:]} for its own use (AppleDouble); delete such "
                f"files: find {shlex.quote(str(path.parent))} -name '._*' -delete"
            )


def spacing_file(path: str, is_image: bool = False) -> str | None:
    """The JSON file that nnU-Net reads beside a TIFF for its spacing; None if there is none.

    Args:
        path: an image or a label map.
        is_image: the number of the channel is no part of the JSON file's name.
    """
    stem, suffix = os.path.splitext(path)
    file = f"{stem[:-5] if is_image else stem}.json"  # 5 for the channel, such as _0000
    return file if suffix.lower() in (".tif", ".tiff") and os.path.isfile(file) else None
