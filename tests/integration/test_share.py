"""Export and install with the real commands, on SAM's full encoder with random weights: predictions are bit for bit."""

import json
import re

import numpy as np
import pytest
from support.images import read_array, read_probabilities, store_as
from support.raw_datasets import write_raw_dataset
from support.sam_files import write_timm_checkpoint, write_wrapped_checkpoint

pytestmark = pytest.mark.integration

NAME, TRAINER = "Dataset905_Blobs", "nnUNetTrainerTPMamba_thin_short"


@pytest.fixture(scope="module")
def trained(module_nnunet, tmp_path_factory):
    nnunet, folder = module_nnunet, tmp_path_factory.mktemp("sam")
    write_raw_dataset(nnunet.raw / NAME, ["a", "b"], (16, 20, 24), (3.0, 2.0, 2.0))
    for file in ("imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"):
        store_as(nnunet.raw / NAME / file, nnunet.raw / NAME / file, "PIR")
    nnunet.plan(NAME)
    (nnunet.preprocessed / NAME / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    nnunet.sam = write_wrapped_checkpoint(folder / "best.pt")
    nnunet.sam_of_timm = write_timm_checkpoint(folder / "timm.safetensors")
    nnunet.other_sam = write_timm_checkpoint(folder / "other.safetensors", seed=1)
    nnunet.train(NAME, TRAINER, TPMAMBA_SAM_CHECKPOINT=str(nnunet.sam))
    yield nnunet
    for file in (nnunet.sam, nnunet.sam_of_timm, nnunet.other_sam):
        file.unlink()  # pytest keeps the folders of three runs


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    file = tmp_path_factory.mktemp("exported") / "model.safetensors"
    said = trained.run("nnUNetv2_tpmamba", "export", "-d", 905, "-tr", TRAINER, "-o", file).stdout
    checkpoint = next(trained.results.rglob("checkpoint_final.pth"))
    assert file.stat().st_size < 0.15 * checkpoint.stat().st_size
    assert f"{file.stat().st_size / 1e6:.0f} MB, of checkpoints of {checkpoint.stat().st_size / 1e6:.0f} MB" in said
    return file


def predict(nnunet, output, results):
    images = nnunet.raw / NAME / "imagesTr"
    return nnunet.predict(NAME, TRAINER, images, output, "--save_probabilities", nnUNet_results=str(results))


def test_predicts_bit_for_bit_with_a_sam_file_of_another_layout(trained, exported, tmp_path):
    installed = tmp_path / "installed"
    installed.mkdir()
    said = trained.run(
        *("nnUNetv2_tpmamba", "install", exported),
        TPMAMBA_SAM_CHECKPOINT=str(trained.sam_of_timm),
        nnUNet_results=str(installed),
    ).stdout
    assert f"-d {NAME} -c 3d_fullres -tr {TRAINER} -p nnUNetPlans -f 0" in said
    one = predict(trained, tmp_path / "original", trained.results)
    other = predict(trained, tmp_path / "again", installed)
    for case in ("a", "b"):
        for read, ending in ((read_probabilities, ".npz"), (read_array, ".nii.gz")):
            np.testing.assert_array_equal(*(read(folder / f"{case}{ending}") for folder in (one, other)))


def test_the_log_says_which_encoder_it_is(trained):
    said = next(trained.results.rglob("training_log_*.txt")).read_text()
    assert re.search(r"SAM weights: .*best\.pt\b.*Encoder: unknown SAM ViT-B, SHA-256 \w{64}\b", said, re.DOTALL)


def test_another_sam_file_is_refused(trained, exported, tmp_path):
    result = trained.run(
        *("nnUNetv2_tpmamba", "install", exported),
        check=False,
        TPMAMBA_SAM_CHECKPOINT=str(trained.other_sam),
        nnUNet_results=str(tmp_path),
    )
    assert result.returncode == 1
    assert re.search(
        r"was trained on other SAM weights: unknown SAM ViT-B, whose SHA-256 is \w{64}, while that of "
        r".*other\.safetensors, which is unknown SAM ViT-B, is \w{64}",
        result.stderr,
    )
    assert list(tmp_path.iterdir()) == []


def test_an_exported_file_is_not_overwritten(trained, exported):
    before = exported.read_bytes()
    result = trained.run("nnUNetv2_tpmamba", "export", "-d", 905, "-tr", TRAINER, "-o", exported, check=False)
    assert result.returncode == 1
    assert "--overwrite" in result.stderr
    assert exported.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", 905, "-tr", "nnUNetTrainerTPMamba"], "nnUNetTrainerTPMamba has no results"),
        (["-d", 905, "-tr", TRAINER, "-f", 3], "fold_3/checkpoint_final.pth does not exist"),
        (["-d", 999], "there is no dataset 999"),
    ],
)
def test_says_what_is_missing(trained, tmp_path, arguments, message):
    result = trained.run("nnUNetv2_tpmamba", "export", *arguments, "-o", tmp_path / "x.safetensors", check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
