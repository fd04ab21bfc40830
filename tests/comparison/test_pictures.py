"""What the pictures of cases show, and in which proportions."""

from dataclasses import replace

import matplotlib.image
import nibabel
import numpy as np
import pytest
import SimpleITK

from nnunetv2_tpmamba.comparison.pictures import (
    CasePicture,
    as_seen,
    class_colours,
    draw_case_pictures,
    fullest_slice,
    panels,
    shown_axes,
)
from nnunetv2_tpmamba.comparison.volumes import read_case_picture

NII = {"file_ending": ".nii.gz"}


def comparison(shape=(20, 30, 40), spacing=(4.0, 2.0, 2.0), title="case: mean Dice 0.5"):
    truth = np.zeros(shape, np.uint8)
    truth[5:10, 5:15, 5:15] = 1
    truth[8:15, 5:15, 20:30] = 2
    predictions = {"prediction": np.roll(truth, 2, axis=2)}
    return CasePicture(title, np.zeros(shape, np.int16), truth, predictions, spacing, window=(-200, 250))


def test_the_picture_has_three_columns_and_its_planes_keep_their_proportions(tmp_path):
    """In mm: 60 x 80 axial and 80 x 80 coronal, so 0.75 and 1 columns high, plus the lines of text."""
    sizes = []
    for count in (1, 2):
        path = tmp_path / f"{count}.png"
        draw_case_pictures([comparison()] * count, {1: "liver", 2: "spleen"}, path)
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


@pytest.mark.parametrize("number", [2, 10, 20, 25, 100])
def test_no_two_classes_look_alike(number):
    colours = np.array(list(class_colours(range(1, number + 1)).values()))
    assert colours.shape == (number, 3)
    assert len(np.unique(colours.round(2), axis=0)) == number


def test_of_one_slice_its_own_plane_is_shown(tmp_path):
    assert shown_axes((5, 6, 7)) == [0, 1]
    assert [shown_axes(shape) for shape in ((1, 6, 7), (6, 1, 7), (6, 7, 1), (1, 1, 7))] == [[0], [1], [2], [2]]
    draw_case_pictures([replace_arrays(comparison(), lambda array: array[9:10])], {1: "a", 2: "b"}, tmp_path / "a.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "a.png").shape
    assert height - 45 * 2 == pytest.approx(0.75 * width / 3, abs=2)


def replace_arrays(case, change):
    predictions = {name: change(array) for name, array in case.predictions.items()}
    return replace(case, image=change(case.image), truth=change(case.truth), predictions=predictions)


def test_long_names_of_columns_and_classes_stay_within(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: figures.append(figure))
    case = comparison()
    case = replace(case, predictions={f"{'long_name_' * 12}{i}, Dice 0.5": case.truth for i in range(2)})
    draw_case_pictures([case], {i: f"gastrointestinal tract, part {i}" for i in range(1, 30)}, tmp_path / "a.png")
    (figure,) = figures
    figure.canvas.draw()
    names = [text for axes in figure.axes for text in axes.texts]
    assert "Dice 0.5" in names[-1].get_text()
    for text in names:
        assert text.get_window_extent().x1 <= text.axes.get_window_extent().x1
    legend = figure.legends[0].get_window_extent()
    assert (legend.x0 >= 0, legend.x1 <= figure.bbox.x1) == (True, True)
    assert legend.y1 <= min(axes.get_window_extent().y0 for axes in figure.axes)


def read_alone(path, ending, **description):
    """The file as image and as truth of a picture."""
    return read_case_picture("", path, path, {"p": path}, {"file_ending": ending, **description})


@pytest.mark.parametrize("ending", [".png", ".nii.gz"])
def test_2d_images_are_one_slice_as_they_are(tmp_path, ending):
    array = np.arange(30, dtype=np.uint8).reshape(5, 6)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / f"a{ending}"))
    case = read_alone(tmp_path / f"a{ending}", ending)
    assert all((of == array[None]).all() for of in (case.image, case.truth, case.predictions["p"]))


def test_of_a_colour_image_the_first_channel_is_shown(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=True), str(tmp_path / "a.png"))
    assert (read_alone(tmp_path / "a.png", ".png").image == array[None, ..., 0]).all()


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"])
def test_the_patient_lies_the_same_way_however_the_file_is_stored(tmp_path, reader, orientation):
    array = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    image = SimpleITK.GetImageFromArray(array)  # LPS
    image.SetSpacing((1, 2, 3))
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, orientation), str(tmp_path / "a.nii.gz"))
    case = read_alone(tmp_path / "a.nii.gz", ".nii.gz", overwrite_image_reader_writer=reader)
    assert (case.image == array).all()
    assert case.spacing == pytest.approx((3, 2, 1))


def test_a_sheared_image_is_drawn_though_simpleitk_cannot_read_it(tmp_path):
    array = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    affine = np.array([[-1, 0.4, 0, 0], [0, -1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(array.T, affine), tmp_path / "a.nii")
    with pytest.raises(RuntimeError, match="orthonormal"):
        SimpleITK.ReadImage(str(tmp_path / "a.nii"))
    case = read_alone(tmp_path / "a.nii", ".nii")
    assert (case.image == array).all()
    assert (case.predictions["p"] == array).all()


def test_label_maps_are_turned_with_their_image(tmp_path):
    """A label's header may differ from its image's, which nnU-Net does not read."""
    array = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    image = SimpleITK.GetImageFromArray(array)
    SimpleITK.WriteImage(image, str(tmp_path / "label.nii.gz"))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(tmp_path / "image.nii.gz"))
    label, image = tmp_path / "label.nii.gz", tmp_path / "image.nii.gz"
    case = read_case_picture("", image, label, {"p": image}, NII)
    assert (case.truth == array[:, ::-1, ::-1]).all()
    assert (case.image == case.truth).all()


class TestReading:
    @pytest.fixture
    def truth(self, tmp_path):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(comparison().truth), str(tmp_path / "truth.nii.gz"))
        return tmp_path / "truth.nii.gz"

    @pytest.mark.parametrize("names", [{"0": "CT"}, {"0": "T2"}])
    def test_without_an_image_the_panel_is_black_and_it_is_said_why(self, truth, tmp_path, names):
        (tmp_path / "empty.nii.gz").touch()
        SimpleITK.WriteImage(SimpleITK.Image(3, 4, 5, SimpleITK.sitkInt16), str(tmp_path / "other.nii.gz"))
        for name, why in (
            (None, "there is none"),
            ("empty.nii.gz", "empty.nii.gz is empty"),
            ("other.nii.gz", "other.nii.gz has 5 4 3 voxels, its truth 20 30 40"),
        ):
            image = None if name is None else tmp_path / name
            case = read_case_picture("", image, truth, {"p": truth}, NII | {"channel_names": names})
            assert why in case.without_image
            assert (panels(case, 0, {})[0] == 0).all()

    @pytest.mark.parametrize("names", [["CT"], {}, None, "CT"])
    def test_unusual_channel_names_are_not_ct(self, truth, names):
        assert read_case_picture("", truth, truth, {}, NII | {"channel_names": names}).window == (
            0,
            2,
        )

    def test_a_ct_is_shown_in_the_papers_window(self, truth):
        assert read_case_picture(
            "", truth, truth, {}, {"channel_names": {"0": "ct"}, "file_ending": ".nii.gz"}
        ).window == (-200, 250)
