"""Label maps that cannot be compared are refused, whatever is wrong with them."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from support.label_maps import SPACING, blob

from nnunetv2_tpmamba.comparison.label_maps import reader_of
from nnunetv2_tpmamba.comparison.metrics import score_pair


@pytest.mark.parametrize("file", ["t", "p"])
def test_other_labels_are_refused_in_truth_and_prediction(pair, file):
    maps = {"t": np.where(blob(1), 1, 0), "p": np.where(blob(2), 1, 0)}
    maps[file][blob(3)] = 11
    maps[file][0, 0, 0] = 12
    message = rf"{file}.nii.gz holds the values 11, 12; dataset.json names 0, 1, 2, 9: these are other labels"
    with pytest.raises(ValueError, match=message):
        score_pair(pair(maps["t"], maps["p"], ignore_label=9))


@pytest.mark.parametrize("bad", [np.nan, 0.5])
def test_a_map_of_probabilities_is_no_label_map(pair, tmp_path, bad):
    made = replace(pair(blob(1), blob(2)), prediction=tmp_path / "p.mha")  # of NIfTI, ITK makes NaN 0
    image = SimpleITK.GetImageFromArray(np.where(blob(2), np.float32(bad), np.float32(0)))
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(made.prediction))
    with pytest.raises(ValueError, match=rf"p.mha holds the values {bad}; .* no label map"):
        score_pair(made)
    values = np.linspace(0, 1, 25 * 21 * 14, dtype=np.float32).reshape(14, 25, 21)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(made.prediction))
    with pytest.raises(ValueError, match=r"\.\.\. \(7348 such values\)"):
        score_pair(made)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"spacing": (2.5, 0.8, 1.4)}, "another spacing.*2.5 0.8 1.4 instead of 2.5 0.8 1.3"),
        ({"origin": (0.0, 5.0, 0.0)}, "another origin"),
    ],
)
def test_other_geometry_is_refused(pair, geometry, message):
    with pytest.raises(ValueError, match=message):
        score_pair(pair(blob(1), blob(1), **geometry))


def test_other_shape_is_refused(pair):
    with pytest.raises(ValueError, match=r"another shape .*: 13 25 21 instead of 14 25 21"):
        score_pair(pair(blob(1), blob(1)[1:]))


@pytest.mark.parametrize("part", [0.4, 0.95])
@pytest.mark.parametrize("file", ["t", "p"])
def test_a_file_that_was_cut_off_is_named(pair, file, part):
    """ITK reads it without an error, and what is missing as background."""
    noisy = np.random.default_rng(0).integers(0, 3, (14, 25, 21))
    made = pair(noisy, noisy)
    damaged = made.truth if file == "t" else made.prediction
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: int(part * len(whole))])
    assert SimpleITKIO().read_seg(str(damaged))[0].shape == (1, 14, 25, 21)
    with pytest.raises(ValueError, match=rf"{file}.nii.gz cannot be read \(.*ended before.*\); make it again"):
        score_pair(made)


def test_the_reader_is_that_of_the_first_file_that_can_be_read(pair, tmp_path, capsys):
    made = pair(blob(1), blob(2))
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"no image")
    description = {"file_ending": ".nii.gz"}
    assert reader_of(description, [damaged, made.truth]) is reader_of(description, [damaged]) is SimpleITKIO
    assert "Traceback" not in "".join(capsys.readouterr())
    with pytest.raises(ValueError, match=r"file_ending \.xyz in dataset.json: nnU-Net has no reader"):
        reader_of({"file_ending": ".xyz"}, [made.truth])
