"""A truth and a prediction as files."""

import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from support.label_maps import write_labels

from nnunetv2_tpmamba.comparison.metrics import Pair


@pytest.fixture
def pair(tmp_path):
    """A function that writes a truth and a prediction."""

    def make(truth, prediction, classes=None, ignore_label=None, tolerance=1.0, **geometry):
        classes = classes or {"one": 1, "two": 2}
        files = (
            write_labels(tmp_path / "t.nii.gz", truth),
            write_labels(tmp_path / "p.nii.gz", prediction, **geometry),
        )
        return Pair(*files, classes, ignore_label, dict.fromkeys(classes, tolerance), SimpleITKIO)

    return make
