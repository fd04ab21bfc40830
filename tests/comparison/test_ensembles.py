"""Ensembles of models that read images differently are named, others are not."""

import json

import pytest

from nnunetv2_tpmamba.comparison.ensembles import turned_ensembles

STORED, TURNED = "SimpleITKIO", "SimpleITKIOWithReorient"


@pytest.mark.parametrize(("readers", "named"), [((STORED, TURNED), 1), ((TURNED, TURNED), 0), ((TURNED, None), 0)])
def test_only_models_that_read_differently_are_named(tmp_path, readers, named):
    models = ("A__nnUNetPlans__3d_fullres", "B__nnUNetPlans__3d_fullres")
    for model, reader in zip(models, readers, strict=True):
        (tmp_path / model).mkdir()
        if reader is not None:
            (tmp_path / model / "plans.json").write_text(json.dumps({"image_reader_writer": reader}))
    assert turned_ensembles(tmp_path) == []
    (tmp_path / "ensembles" / "___".join(["ensemble", *models, "0_1_2_3_4"])).mkdir(parents=True)
    notes = turned_ensembles(tmp_path)
    assert len(notes) == named
    for note in notes:
        assert f"({models[0]} with {STORED}, {models[1]} with {TURNED})" in note
        assert "do not use this ensemble" in note
