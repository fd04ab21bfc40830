"""What tests ask of files and images."""

import hashlib

import numpy as np
import SimpleITK


def assert_same_geometry(predicted, image):
    for path in (predicted, image):
        assert path.is_file(), path
    result, given = SimpleITK.ReadImage(str(predicted)), SimpleITK.ReadImage(str(image))
    assert result.GetSize() == given.GetSize()
    for quantity in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(result, quantity)(), getattr(given, quantity)(), atol=1e-5, err_msg=quantity)


def content(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
