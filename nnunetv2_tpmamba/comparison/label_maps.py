"""Label maps: read them with nnU-Net's readers, and refuse those that cannot be compared."""

import gzip
import io
import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from nibabel.filebasedimages import ImageFileError
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

NO_THICKNESS = 999  # nnU-Net's readers give a 2D image this thickness, in mm or in multiples of its largest spacing
GEOMETRY_TOLERANCE = 1e-3  # mm
MOST_VALUES_NAMED = 5
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class LabelMap:
    """A label map and the file it was read from.

    Args:
        properties: nnU-Net's.

    Shape:
        labels ``(z, y, x)``.
    """

    file: Path
    labels: np.ndarray
    properties: Mapping[str, Any]

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm, ``(z, y, x)``."""
        return tuple(float(value) for value in self.properties["spacing"])

    @property
    def is_two_dimensional(self) -> bool:
        """Whether the map is one slice of the thickness that nnU-Net's readers invent for a 2D image."""
        thickness, *in_plane = self.spacing
        invented = (NO_THICKNESS * unit for unit in (1.0, max(in_plane)))
        return len(self.labels) == 1 and any(math.isclose(thickness, value, rel_tol=1e-6) for value in invented)

    def geometry(self) -> dict[str, Any]:
        """Shape, spacing, and whatever nnU-Net's reader says of position and orientation."""
        result = {"shape": self.labels.shape, "spacing": self.properties["spacing"]}
        itk = self.properties.get("sitk_stuff", {})
        result |= {name: itk[name] for name in ("origin", "direction") if name in itk}
        affine = self.properties.get("nibabel_stuff", {}).get("original_affine")
        return result if affine is None else result | {"affine": affine}


def read(file: Path, reader: type[BaseReaderWriter]) -> LabelMap:
    """Read a label map.

    Raises:
        ValueError: the file is missing, empty, cut off or cannot be read.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist; predict this case again")
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty; it was cut off while being written: make it again")
    try:
        if is_compressed(file):  # not by its name: nnU-Net copies what a dataset.json lists to names of one ending
            read_to_the_end(file)
        labels, properties = reader().read_seg(str(file))
    except Exception as error:  # each reader's library raises its own kinds for a damaged file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1].strip().replace(str(file), "it")
        raise ValueError(f"{file} cannot be read ({reason}); make it again") from error
    return LabelMap(file, labels[0], properties)


def is_compressed(file: Path) -> bool:
    """Whether a file's first bytes are those of gzip."""
    with file.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def read_to_the_end(file: Path) -> None:
    """Raise the error of :mod:`gzip` if a file was cut off; ITK reads such a file without an error."""
    with gzip.open(file) as stream:
        while stream.read(CHUNK):
            pass


def reader_of(description: Mapping[str, Any], files: Iterable[Path], of_plans: str = "") -> type[BaseReaderWriter]:
    """nnU-Net's reader for a dataset's label maps, chosen by the first file that can be read.

    Args:
        of_plans: the name of the reader in a model's plans, with which nnU-Net validated; empty if it is not known.

    Raises:
        ValueError: nnU-Net has no reader for this ``file_ending``.
    """
    if of_plans:
        description = {**description, "overwrite_image_reader_writer": of_plans}
    for example in (*map(str, files), None):  # None: if all are damaged, reading them later says so
        with redirect_stderr(io.StringIO()), suppress(RuntimeError):  # for a damaged file nnU-Net prints a traceback
            return determine_reader_writer_from_dataset_json(dict(description), example, verbose=False)
    raise ValueError(f"file_ending {description['file_ending']} in dataset.json: nnU-Net has no reader for such files")


def check_labels(labels: LabelMap, known: Collection[int]) -> None:
    """Raise ValueError if a label map holds a value that ``dataset.json`` does not name."""
    unknown = np.ones(labels.labels.shape, bool)
    for value in known:  # much faster than isin, as nnU-Net's readers give floating-point numbers
        unknown &= labels.labels != value
    foreign = np.unique(labels.labels[unknown])
    if len(foreign):
        more = f", ... ({len(foreign)} such values)" if len(foreign) > MOST_VALUES_NAMED else ""
        named = ", ".join(f"{value:g}" for value in foreign[:MOST_VALUES_NAMED])
        raise ValueError(
            f"{labels.file} holds the values {named}{more}; dataset.json names {', '.join(map(str, known))}: these are "
            "other labels, or no label map"
        )


def check_geometry(truth: LabelMap, prediction: LabelMap, with_place: bool = True) -> None:
    """Raise ValueError if truth and prediction differ in shape or spacing.

    Args:
        with_place: position and orientation must be equal too.
    """
    ours, theirs = truth.geometry(), prediction.geometry()
    for name in ours.keys() & theirs.keys() if with_place else ("shape", "spacing"):
        if np.shape(ours[name]) != np.shape(theirs[name]) or not np.allclose(
            ours[name], theirs[name], rtol=0, atol=GEOMETRY_TOLERANCE
        ):
            raise ValueError(
                f"{prediction.file} has another {name} than its truth {truth.file}: {shown(theirs[name])} instead of "
                f"{shown(ours[name])}; predict from the image that this truth was drawn on"
            )


def are_at_one_place(truth: Path, prediction: Path) -> bool:
    """Whether two files have equal position and orientation by their headers; true for files that name none."""
    for place in (place_by_itk, place_by_nibabel):
        with suppress(RuntimeError, ImageFileError):  # it does not know one of the files
            ours, theirs = place(truth), place(prediction)
            return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=0, atol=GEOMETRY_TOLERANCE))
    return True


def place_by_itk(file: Path) -> np.ndarray:
    """Origin and direction in a file's header, in a row."""
    header = SimpleITK.ImageFileReader()
    header.SetFileName(str(file))
    header.ReadImageInformation()
    return np.array([*header.GetOrigin(), *header.GetDirection()])


def place_by_nibabel(file: Path) -> np.ndarray:
    """The affine of a NIfTI file, which may be sheared, in a row."""
    return np.ravel(nibabel.load(file).affine)


def shown(values: Any) -> str:
    """Numbers in a row, for a message."""
    return " ".join(f"{value:g}" for value in np.ravel(values))
