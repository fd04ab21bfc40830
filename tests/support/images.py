"""Images as SimpleITK writes and reads them, and comparisons of files."""

import hashlib

import nibabel
import numpy as np
import SimpleITK
from scipy.spatial.transform import Rotation


def write_image(array, path, spacing=(1, 1, 1), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), origin=(0, 0, 0)):
    """Write an array as int16; it and ``spacing`` (mm) are in the order (z, y, x), ``origin`` in (x, y, z)."""
    image = SimpleITK.GetImageFromArray(np.asarray(array).astype(np.int16))
    image.SetSpacing([float(mm) for mm in spacing[::-1]])
    image.SetDirection(np.asarray(direction, float).ravel().tolist())
    image.SetOrigin(origin)
    SimpleITK.WriteImage(image, str(path))


def turned(*degrees):
    """The direction of an oblique image: turned about its first axis, and the second and third if they are given."""
    return Rotation.from_euler("xyz"[: len(degrees)], degrees, degrees=True).as_matrix()


def store_as(image, path, orientation):
    """Write an image again with its axes in another order or direction, such as ``"PIR"``; voxels keep their place."""
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(image)), orientation), str(path))


def orientation_of(path):
    """The orientation in which an image is stored, such as ``"LPS"``."""
    return "".join(nibabel.aff2axcodes(nibabel.load(path).affine))


def read_array(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def read_probabilities(path):
    """The map of each class that nnU-Net saved with ``--npz`` or ``--save_probabilities``."""
    return np.load(path)["probabilities"]


def assert_same_geometry(predicted, image):
    """Check that two images have the same size, spacing, origin and direction."""
    for path in (predicted, image):
        assert path.is_file(), path
    result, given = SimpleITK.ReadImage(str(predicted)), SimpleITK.ReadImage(str(image))
    assert result.GetSize() == given.GetSize()
    for quantity in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(result, quantity)(), getattr(given, quantity)(), atol=1e-5, err_msg=quantity)


def content(folder):
    """The SHA-256 of every file in a folder, by its path there."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
