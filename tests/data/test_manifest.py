"""What the manifest writes it reads again, and damage to it is named."""

import shutil

import pytest

from nnunetv2_tpmamba.data.manifest import Manifest, name_some


class TestManifest:
    def test_reads_what_it_wrote(self, made):
        made.manifest.cases["ccc"] = None
        made.manifest.write(made.folder)
        assert Manifest.read(made.folder) == made.manifest

    def test_no_folder(self, tmp_path):
        assert Manifest.read(tmp_path / "gone") is None

    def test_data_of_unknown_origin(self, made):
        shutil.rmtree(made.folder / ".tpmamba")
        with pytest.raises(
            ValueError, match=r"holds data, but no .tpmamba/manifest.json .*copy that hidden sub-folder"
        ):
            Manifest.read(made.folder)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": {}, "cases": {"a": {"sizes": 1}}}'])
    def test_damaged(self, made, content):
        (made.folder / ".tpmamba/manifest.json").write_text(content)
        with pytest.raises(
            ValueError, match=r"manifest.json cannot be read \(.*delete .*_tpmamba, it will be made again"
        ):
            Manifest.read(made.folder)


def test_many_names_are_counted():
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(list("abcdefg")) == "a, b, c, d, e and 2 more"
