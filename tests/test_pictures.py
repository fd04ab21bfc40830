import matplotlib.image
import numpy as np
import pytest

from nnunetv2_tpmamba.pictures import Comparison, as_seen, draw_comparisons, fullest_slice, panels


def comparison(shape=(20, 30, 40), spacing=(4.0, 2.0, 2.0), title="case: mean Dice 0.5"):
    truth = np.zeros(shape, np.uint8)
    truth[5:10, 5:15, 5:15] = 1
    truth[8:15, 5:15, 20:30] = 2
    predictions = {"prediction": np.roll(truth, 2, axis=2)}
    return Comparison(title, np.zeros(shape, np.int16), truth, predictions, spacing, window=(-200, 250))


def test_the_picture_has_three_columns_and_its_planes_keep_their_proportions(tmp_path):
    """In mm: 60 x 80 axial and 80 x 80 coronal, so 0.75 and 1 columns high, plus the lines of text."""
    sizes = []
    for count in (1, 2):
        path = tmp_path / f"{count}.png"
        draw_comparisons([comparison()] * count, {1: "liver", 2: "spleen"}, path)
        height, width, _ = matplotlib.image.imread(path).shape
        sizes.append(height)
        assert width == 3 * 360
    line = 45
    assert sizes[1] - sizes[0] == pytest.approx((0.75 + 1) * 360 + line, abs=2)


def test_all_panels_show_the_image_and_two_show_labels():
    case = comparison()
    plain, truth, prediction = panels(case, 0, {1: np.array([1.0, 0, 0]), 2: np.array([0, 1.0, 0])})
    index = fullest_slice(case.truth, 0)
    grey = 200 / 450
    assert np.allclose(plain, grey)
    assert np.allclose(truth[case.truth[index] == 0], grey)
    assert np.allclose(truth[case.truth[index] == 1], [(1 + grey) / 2, grey / 2, grey / 2])
    assert np.allclose(np.roll(truth, 2, axis=1), prediction)


def test_the_slice_with_most_classes_is_shown():
    truth = comparison().truth
    assert set(np.unique(truth[fullest_slice(truth, 0)])) == {0, 1, 2}
    truth[9, 5, 5] = 0
    assert fullest_slice(truth, 0) == 8
    assert fullest_slice(np.zeros_like(truth), 0) == 0


def test_the_head_is_up():
    coronal = np.arange(3)[:, None] * np.ones((1, 4))
    assert as_seen(coronal, 1)[0, 0] == 2
    assert as_seen(coronal, 0)[0, 0] == 0
