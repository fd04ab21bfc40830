"""Finding SAM's file: which place comes first, and what is said when there is none."""

import hashlib
import shutil
import time
from pathlib import Path

import huggingface_hub
import pytest
import requests
from support.sam_sources import TWO_WAYS, answer_of, cut_network, fail, publish

from nnunetv2_tpmamba.networks.sam.download import find_sam_checkpoint
from nnunetv2_tpmamba.networks.sam.models import MODELS, VIT_B

pytestmark = pytest.mark.usefixtures("empty_caches")


def put_in_torch_cache(tmp_path, checkpoint, name="sam_vit_b_01ec64.pth"):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return Path(shutil.copy(checkpoint, folder / name))


def put_in_hub_cache(tmp_path, checkpoint, name="model.safetensors"):
    repository = tmp_path / "hf" / "hub" / "models--timm--samvit_base_patch16.sa1b"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return Path(shutil.copy(checkpoint, repository / "snapshots" / ("0" * 40) / name))


def test_environment_variable_comes_first(monkeypatch, tiny_checkpoint, tmp_path):
    put_in_torch_cache(tmp_path, tiny_checkpoint)
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tiny_checkpoint))

    assert find_sam_checkpoint() == tiny_checkpoint


@pytest.mark.parametrize(("name", "state"), [("none.pth", "does not exist"), ("", "is a folder")])
def test_wrong_environment_variable_is_never_passed_over(name, state, monkeypatch, tiny_checkpoint, tmp_path):
    put_in_torch_cache(tmp_path, tiny_checkpoint)
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tmp_path / name))

    with pytest.raises(
        FileNotFoundError, match=rf"TPMAMBA_SAM_CHECKPOINT is set to .*{name}, which {state}; .*{TWO_WAYS}"
    ):
        find_sam_checkpoint()


@pytest.mark.parametrize("name", ["sam_vit_b_01ec64.pth", "samvit_base_patch16.sa1b.safetensors"])
def test_finds_torchs_cache_before_the_hubs(name, tiny_checkpoint, tmp_path):
    put_in_hub_cache(tmp_path, tiny_checkpoint)
    cached = put_in_torch_cache(tmp_path, tiny_checkpoint, name)

    assert find_sam_checkpoint() == cached


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_finds_the_hubs_cache(name, tiny_checkpoint, tmp_path):
    cached = put_in_hub_cache(tmp_path, tiny_checkpoint, name)

    assert find_sam_checkpoint() == cached


def test_downloads_once_and_finds_it_again(sources, tmp_path):
    downloaded = find_sam_checkpoint()

    assert downloaded == tmp_path / "torch" / "hub" / "checkpoints" / "sam_vit_b_01ec64.pth"
    assert find_sam_checkpoint() == find_sam_checkpoint(download=False) == downloaded
    assert sources == ["meta"]


def test_without_download_lists_the_places(sources, tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        find_sam_checkpoint(download=False)

    for part in (
        "TPMAMBA_SAM_CHECKPOINT is not set",
        str(tmp_path / "torch/hub/checkpoints"),
        str(tmp_path / "hf/hub"),
    ):
        assert part in str(info.value)
    assert info.match(TWO_WAYS)
    assert sources == []


def test_offline_fails_quickly_and_lists_the_places(monkeypatch, tmp_path):
    cut_network(monkeypatch)
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as info:
        find_sam_checkpoint()

    assert time.monotonic() - start < 10
    for part in (str(tmp_path / "torch"), str(tmp_path / "hf"), VIT_B.meta_url, VIT_B.hub_repository):
        assert part in str(info.value)
    assert str(info.value).count("Name or service not known") == 2
    assert "Pool" not in str(info.value)  # of an HTTP client, which wraps that
    assert info.match(TWO_WAYS)
    assert [path.name for path in (tmp_path / "torch/hub/checkpoints").iterdir()] == [".sam_vit_b.lock"]


def test_offline_mode_of_the_hub_is_honoured(monkeypatch, sources):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(FileNotFoundError, match=rf"HF_HUB_OFFLINE is set, so nothing was downloaded; .*{TWO_WAYS}"):
        find_sam_checkpoint()
    assert sources == []


def test_the_advice_is_given_once(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: answer_of(b"text"))
    publish(monkeypatch, hashlib.sha256(b"text").hexdigest())
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail(OSError("no hub")))

    with pytest.raises(FileNotFoundError, match=r"\(.*is no checkpoint .*\) nor from .*\(no hub\)") as info:
        find_sam_checkpoint()
    assert str(info.value).count("a SAM ViT-B file is needed") == 1


@pytest.mark.parametrize("name", ["vit_l", "vit_h"])
def test_each_size_has_its_own_place(name, tiny_checkpoint, tmp_path):
    put_in_torch_cache(tmp_path, tiny_checkpoint)
    model = MODELS[name]
    ways = rf"`nnUNetv2_tpmamba weights --model {name}`.*{model.meta_file}.*{model.hub_repository}"
    with pytest.raises(FileNotFoundError, match=f"no {model.title} file was found: .*{model.meta_file}.*{ways}"):
        find_sam_checkpoint(model, download=False)
    kept = tiny_checkpoint.rename(tmp_path / "torch" / "hub" / "checkpoints" / model.hub_file_kept_as)
    assert find_sam_checkpoint(model, download=False) == kept
    assert find_sam_checkpoint(VIT_B, download=False) != kept


def test_an_encoder_of_its_own_sizes_is_found_by_the_variable_alone(monkeypatch, sources, tiny_checkpoint):
    with pytest.raises(
        FileNotFoundError, match=r"CHECKPOINT is not set; this network's config gives its encoder sizes"
    ):
        find_sam_checkpoint(None)
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tiny_checkpoint))
    assert find_sam_checkpoint(None) == tiny_checkpoint
    assert sources == []
