import hashlib
import io
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import requests
import safetensors.torch
import timm
import torch
from checkpoints import write_meta_checkpoint, write_timm_checkpoint

from nnunetv2_tpmamba import cli, sam_weights
from nnunetv2_tpmamba.sam_weights import download_sam_checkpoint, find_sam_checkpoint, read_sam_checkpoint

REAL_CHECKPOINT = os.environ.get("TPMAMBA_SAM_CHECKPOINT", "")
TWO_WAYS = r"`nnUNetv2_tpmamba weights`.*TPMAMBA_SAM_CHECKPOINT.*sam_vit_b_01ec64\.pth.*model\.safetensors"


@pytest.fixture(scope="session")
def meta_checkpoint(tmp_path_factory):
    path = write_meta_checkpoint(tmp_path_factory.mktemp("meta") / "sam_vit_b_01ec64.pth")
    yield path
    path.unlink()  # pytest keeps the folders of three runs


@pytest.fixture(scope="session")
def meta_weights(meta_checkpoint):
    return read_sam_checkpoint(meta_checkpoint)


@pytest.fixture(scope="session")
def tiny_state():
    """Every tensor of Meta's layout in its shape, each stored as the one number that it repeats."""
    shapes = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0).state_dict()
    encoder = {
        f"image_encoder.{name.replace('.mlp.fc', '.mlp.lin')}": torch.full((1,), 0.5).expand(tensor.shape)
        for name, tensor in shapes.items()
    }
    return encoder | {"prompt_encoder.no_mask_embed.weight": torch.zeros(1, 256)}


@pytest.fixture
def tiny_checkpoint(tiny_state, tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(tiny_state, path)
    return path


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("TPMAMBA_SAM_CHECKPOINT", raising=False)
    monkeypatch.delenv("TORCH_HUB", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    # huggingface_hub reads HF_HOME and HF_HUB_OFFLINE once, at import
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def answer_of(content):
    """What ``requests`` gives for a file of this content."""
    answer = requests.Response()
    answer.status_code, answer.raw = 200, io.BytesIO(content)
    return answer


@pytest.fixture
def sources(monkeypatch, tiny_checkpoint):
    """Both sources answer with the tiny checkpoint, without a network; returns the log of their calls."""
    calls = []

    digest = sam_weights.sha256(tiny_checkpoint)

    def meta(url, stream, timeout):
        assert url == sam_weights.META_URL
        calls.append("meta")
        return answer_of(tiny_checkpoint.read_bytes())

    def hub(repo_id, filename, local_dir):
        assert (repo_id, filename) == ("timm/samvit_base_patch16.sa1b", "model.safetensors")
        calls.append("hub")
        return shutil.copy(tiny_checkpoint, Path(local_dir) / filename)

    monkeypatch.setattr(requests, "get", meta)
    monkeypatch.setattr(sam_weights, "META_SHA256", digest)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: SimpleNamespace(etag=digest))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    return calls


@pytest.fixture
def no_network(monkeypatch):
    def unknown_host(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown_host)


def test_sources_are_those_of_timm():
    config = timm.get_pretrained_cfg("samvit_base_patch16.sa1b")

    assert config.url == sam_weights.META_URL
    assert config.hf_hub_id == sam_weights.HUB_REPOSITORY


# Reading


def test_reads_meta_layout_into_timms_encoder(meta_checkpoint, meta_weights):
    encoder = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0)
    encoder.neck = torch.nn.Identity()

    encoder.load_state_dict(meta_weights, strict=True)

    original = torch.load(meta_checkpoint, weights_only=True)
    loaded = encoder.state_dict()
    assert torch.equal(loaded["pos_embed"], original["image_encoder.pos_embed"])
    for i in range(12):
        ours, theirs = f"blocks.{i}.", f"image_encoder.blocks.{i}."
        assert torch.equal(loaded[ours + "mlp.fc1.weight"], original[theirs + "mlp.lin1.weight"])
        assert torch.equal(loaded[ours + "mlp.fc2.bias"], original[theirs + "mlp.lin2.bias"])
        assert torch.equal(loaded[ours + "attn.rel_pos_h"], original[theirs + "attn.rel_pos_h"])
        assert len(loaded[ours + "attn.rel_pos_w"]) == (127 if i in (2, 5, 8, 11) else 27)


@pytest.mark.parametrize("written", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("named", ["model.safetensors", "pytorch_model.bin"])
def test_both_layouts_give_the_same_whatever_the_name(written, named, meta_weights, tmp_path):
    path = write_timm_checkpoint(tmp_path / written).rename(tmp_path / named)

    weights = read_sam_checkpoint(path)

    path.unlink()
    assert weights.keys() == meta_weights.keys()
    assert all(torch.equal(weights[key], meta_weights[key]) for key in weights)


def test_remap_changes_neither_layout_twice(tiny_state):
    once = sam_weights.remap_to_timm(tiny_state)

    assert sam_weights.remap_to_timm(once) == once
    assert not any(name.startswith(("image_encoder.", "prompt_encoder.", "neck.")) for name in once)


def test_reads_half_precision_parameters_as_plain_float32(tiny_state, tmp_path):
    half = torch.full((1,), 0.5).half()
    state = {name: torch.nn.Parameter(half.expand(tensor.shape)) for name, tensor in tiny_state.items()}
    torch.save(state, tmp_path / "half.pth")

    weights = read_sam_checkpoint(tmp_path / "half.pth")

    assert {(tensor.dtype, tensor.requires_grad) for tensor in weights.values()} == {(torch.float32, False)}


def test_reads_the_old_torch_format(tiny_state, tmp_path):
    torch.save(tiny_state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)

    assert len(read_sam_checkpoint(tmp_path / "old.pth")) == 171


@pytest.mark.weights
def test_reads_the_real_file():
    assert read_sam_checkpoint(REAL_CHECKPOINT)["pos_embed"].std() > 0


# Refusing


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"none\.pth does not exist; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "none.pth")


def test_folder(tmp_path):
    with pytest.raises(ValueError, match=rf"is a folder; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [4, 30, 100_000, 0.5, -1])
def test_truncated_meta_file(kept, meta_checkpoint, tmp_path):
    size = meta_checkpoint.stat().st_size
    size = {0.5: size // 2, -1: size - 1}.get(kept, kept)
    path = tmp_path / "cut.pth"
    with meta_checkpoint.open("rb") as whole, path.open("wb") as cut:
        shutil.copyfileobj(whole, cut)
        cut.truncate(size)

    with pytest.raises(ValueError, match=rf"\({size} bytes\) is truncated or damaged .*; delete it; .*{TWO_WAYS}"):
        read_sam_checkpoint(path)
    path.unlink()


@pytest.mark.parametrize("kept", [10, 1000, -1])
def test_truncated_safetensors_file(kept, tmp_path):
    content = safetensors.torch.save({"pos_embed": torch.zeros(1, 64, 64, 8), "norm": torch.zeros(8)})
    (tmp_path / "cut.safetensors").write_bytes(content[:kept])

    with pytest.raises(ValueError, match=rf"is truncated or damaged \(SafetensorError\); .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("kept", [2, 1000, -1])
def test_truncated_old_torch_file(kept, tiny_state, tmp_path):
    torch.save(tiny_state, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:kept])

    with pytest.raises(ValueError, match="is truncated or damaged"):
        read_sam_checkpoint(tmp_path / "cut.pth")


def test_zip_file_that_torch_did_not_write(tmp_path):
    with zipfile.ZipFile(tmp_path / "sam.pth", "w") as archive:
        archive.writestr("readme.txt", "weights follow")

    with pytest.raises(ValueError, match="is truncated or damaged"):
        read_sam_checkpoint(tmp_path / "sam.pth")


def test_empty_file(tmp_path):
    (tmp_path / "sam.pth").touch()

    with pytest.raises(ValueError, match=rf"sam\.pth is empty; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "sam.pth")


@pytest.mark.parametrize("text", ["x", "<html>Log in to the guest network</html>", "version https://git-lfs..."])
def test_text_file(text, tmp_path):
    (tmp_path / "sam.pth").write_text(text)

    with pytest.raises(ValueError, match=rf"is no checkpoint \(it begins with b'{text[:10]}.*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "sam.pth")


@pytest.mark.parametrize(("model", "width"), [("SAM ViT-L", 1024), ("SAM ViT-H", 1280)])
@pytest.mark.parametrize("prefix", ["image_encoder.", ""])
def test_larger_sam(model, width, prefix, tmp_path):
    state = {
        f"{prefix}pos_embed": torch.zeros(1).expand(1, 64, 64, width),
        f"{prefix}patch_embed.proj.weight": torch.zeros(1).expand(width, 3, 16, 16),
    }
    torch.save(state, tmp_path / "sam.pth")

    with pytest.raises(ValueError, match=rf"sam\.pth is {model}; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "sam.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_encoder.cls_token": torch.zeros(1, 1, 768)}, "it has in addition 1 tensors, such as cls_token;"),
        ({"image_encoder.blocks.3.attn.rel_pos_h": None}, r"it lacks 1 tensors, such as blocks\.3\.attn\.rel_pos_h;"),
        (
            {"image_encoder.blocks.2.attn.rel_pos_h": torch.zeros(27, 64)},
            r"it has blocks\.2\.attn\.rel_pos_h of \(27, 64\) where \(127, 64\) is expected;",
        ),
        ({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768).int()}, r"it has pos_embed of torch\.int32 where"),
        ({"image_encoder.pos_embed": "text"}, "it has pos_embed of str where"),
    ],
)
def test_another_model(change, message, tiny_state, tmp_path):
    state = {name: value for name, value in (tiny_state | change).items() if value is not None}
    torch.save(state, tmp_path / "other.pth")

    with pytest.raises(ValueError, match=rf"is another model: {message} .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "other.pth")


def test_a_small_vit_is_another_model(tmp_path):
    safetensors.torch.save_file({"cls_token": torch.zeros(1, 1, 192)}, tmp_path / "model.safetensors")

    with pytest.raises(ValueError, match=r"lacks 171 tensors, such as .* and has in addition 1 tensors, such as cls_t"):
        read_sam_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [[torch.zeros(3)], {0: torch.zeros(3)}, torch.zeros(3)])
def test_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "list.pth")

    with pytest.raises(ValueError, match=rf"holds no state dict; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "list.pth")


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["zip", "old", "pickle"])
def test_malicious_file_is_not_executed(how, tiny_state, tmp_path):
    content = {"image_encoder.pos_embed": Payload(f"touch {tmp_path / 'executed'}")}
    if how == "pickle":
        (tmp_path / "sam.pth").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(tiny_state | content, tmp_path / "sam.pth", _use_new_zipfile_serialization=how == "zip")

    with pytest.raises(
        ValueError, match=rf"is refused: .* it holds (posix|nt)\.system, .*run code; .*{TWO_WAYS}"
    ) as info:
        read_sam_checkpoint(tmp_path / "sam.pth")

    assert not (tmp_path / "executed").exists()
    assert "weights_only" not in str(info.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(value, tiny_state, tmp_path):
    bias = torch.zeros(3072)
    bias[-1] = value
    torch.save(tiny_state | {"image_encoder.blocks.11.mlp.lin1.bias": bias}, tmp_path / "sam.pth")

    with pytest.raises(ValueError, match=rf"is damaged: blocks\.11\.mlp\.fc1\.bias .* not finite; .*{TWO_WAYS}"):
        read_sam_checkpoint(tmp_path / "sam.pth")


# Finding


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


def test_offline_fails_quickly_and_lists_the_places(no_network, tmp_path):
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as info:
        find_sam_checkpoint()

    assert time.monotonic() - start < 10
    for part in (str(tmp_path / "torch"), str(tmp_path / "hf"), sam_weights.META_URL, sam_weights.HUB_REPOSITORY):
        assert part in str(info.value)
    assert str(info.value).count("Name or service not known") == 2
    assert info.match(TWO_WAYS)
    assert [path.name for path in (tmp_path / "torch/hub/checkpoints").iterdir()] == [".sam_vit_b.lock"]


def test_a_server_that_never_answers_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(sam_weights, "CONNECTION_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/file"
        monkeypatch.setattr(sam_weights, "META_URL", url)
        monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repo_id, filename: url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

        start = time.monotonic()
        with pytest.raises(OSError, match=r"could not download from .*timed out.* nor from .*timed out"):
            download_sam_checkpoint(tmp_path / "new")

    assert time.monotonic() - start < 10


def test_downloads_go_through_the_proxy_and_only_over_https(tmp_path):
    asked = []

    def refuse(server):
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(1000).decode().split(" HTTP/")[0])
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        environment["https_proxy"] = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        threading.Thread(target=refuse, args=(proxy,), daemon=True).start()
        # in a process of its own, since the hub's client keeps the proxy it began with
        command = [Path(sys.executable).with_name("nnUNetv2_tpmamba"), "weights", "--to", tmp_path / "new"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert "could not download" in result.stderr

    assert asked == [
        f"CONNECT {urllib.parse.urlsplit(url).hostname}:443"
        for url in (sam_weights.META_URL, huggingface_hub.hf_hub_url(sam_weights.HUB_REPOSITORY, "x"))
    ]


def test_offline_mode_of_the_hub_is_honoured(monkeypatch, sources):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(FileNotFoundError, match=rf"HF_HUB_OFFLINE is set, so nothing was downloaded; .*{TWO_WAYS}"):
        find_sam_checkpoint()
    assert sources == []


# Downloading


def fail(error):
    def failing(*args, **kwargs):
        raise error

    return failing


def find_names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".sam_vit_b.lock")


def test_downloads_from_the_hub_if_meta_is_out_of_reach(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", fail(TimeoutError("timed out")))

    path = download_sam_checkpoint(tmp_path / "new" / "folder")

    assert path == tmp_path / "new" / "folder" / "samvit_base_patch16.sa1b.safetensors"
    assert sources == ["hub"]
    assert find_names(path.parent) == [path.name]
    assert download_sam_checkpoint(path.parent) == path
    assert sources == ["hub"]


def test_an_error_of_any_kind_from_both_sources_is_told(monkeypatch, sources, tmp_path):
    class UnknownClientError(Exception):
        pass

    monkeypatch.setattr(sam_weights, "META_SHA256", 64 * "0")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail(UnknownClientError()))

    with pytest.raises(
        OSError,
        match=rf"from https://.*\(what came .* published is 0000.*nor from .*\(UnknownClientError\); .*{TWO_WAYS}",
    ):
        download_sam_checkpoint(tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def test_a_download_of_something_else_is_not_kept(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: answer_of(b"<html>Log in</html>"))

    assert download_sam_checkpoint(tmp_path / "new").name == "samvit_base_patch16.sa1b.safetensors"
    assert find_names(tmp_path / "new") == ["samvit_base_patch16.sa1b.safetensors"]


def test_the_advice_is_given_once(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: answer_of(b"text"))
    monkeypatch.setattr(sam_weights, "META_SHA256", hashlib.sha256(b"text").hexdigest())
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail(OSError("no hub")))

    with pytest.raises(FileNotFoundError, match=r"\(.*is no checkpoint .*\) nor from .*\(no hub\)") as info:
        find_sam_checkpoint()
    assert str(info.value).count("a SAM ViT-B file is needed") == 1


class StallingServer(BaseHTTPRequestHandler):
    """Sends what ``content`` holds, and then no more though it promised ``promised`` bytes."""

    content, promised = b"", 0

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(self.promised))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.content)
        if len(self.content) < self.promised:
            time.sleep(10)

    def log_message(self, *args):
        pass


@pytest.fixture
def meta_server(monkeypatch):
    """Meta's file on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail(OSError("no hub")))
    with ThreadingHTTPServer(("127.0.0.1", 0), StallingServer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(sam_weights, "META_URL", f"http://127.0.0.1:{server.server_port}/file")
        yield StallingServer
        server.shutdown()


def test_a_download_is_checked_and_shows_progress(monkeypatch, tiny_checkpoint, meta_server, tmp_path, capfd):
    content = tiny_checkpoint.read_bytes()
    monkeypatch.setattr(meta_server, "content", content)
    monkeypatch.setattr(meta_server, "promised", len(content))
    with pytest.raises(OSError, match="what came has the SHA-256"):
        download_sam_checkpoint(tmp_path / "new")
    assert find_names(tmp_path / "new") == []

    monkeypatch.setattr(sam_weights, "META_SHA256", hashlib.sha256(content).hexdigest())
    assert download_sam_checkpoint(tmp_path / "new").read_bytes() == content
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err


def test_a_download_that_stalls_is_given_up(monkeypatch, tiny_checkpoint, meta_server, tmp_path):
    monkeypatch.setattr(meta_server, "content", tiny_checkpoint.read_bytes()[:1000])
    monkeypatch.setattr(meta_server, "promised", 2000)
    monkeypatch.setattr(sam_weights, "STALL_TIMEOUT", 0.5)
    with pytest.raises(OSError, match=r"could not download from http.*timed out.* nor from .*no hub"):
        download_sam_checkpoint(tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def test_a_hub_that_sends_something_else_or_not_over_https_is_refused(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", fail(TimeoutError("timed out")))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: SimpleNamespace(etag=64 * "0"))
    with pytest.raises(OSError, match=r"from Hugging Face's .*what came has the SHA-256 .* published is 0000"):
        download_sam_checkpoint(tmp_path / "new")
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repo_id, filename: "http://mirror/file")
    with pytest.raises(OSError, match="http://mirror/file is not https"):
        download_sam_checkpoint(tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def test_an_interrupted_download_leaves_nothing(monkeypatch, sources, tmp_path):
    def interrupt(size):
        yield b"PK\x03\x04 and then"
        raise KeyboardInterrupt

    answer = answer_of(b"")
    answer.iter_content = interrupt
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: answer)

    with pytest.raises(KeyboardInterrupt):
        download_sam_checkpoint(tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def download_in_threads(monkeypatch, folder, n):
    get = requests.get

    def slow(*args, **kwargs):
        time.sleep(0.5)
        return get(*args, **kwargs)

    monkeypatch.setattr(requests, "get", slow)
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(download_sam_checkpoint(folder))) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return paths


def test_two_at_once_download_once(monkeypatch, sources, tmp_path):
    paths = download_in_threads(monkeypatch, tmp_path / "new", 2)

    assert paths == [tmp_path / "new" / "sam_vit_b_01ec64.pth"] * 2
    assert sources == ["meta"]


def test_two_at_once_are_safe_where_files_cannot_be_locked(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(sam_weights.filelock, "FileLock", fail(OSError("no locks available")))

    paths = download_in_threads(monkeypatch, tmp_path / "new", 2)

    assert paths == [tmp_path / "new" / "sam_vit_b_01ec64.pth"] * 2
    assert sources == ["meta", "meta"]
    assert find_names(tmp_path / "new") == ["sam_vit_b_01ec64.pth"]
    read_sam_checkpoint(paths[0])


def test_a_folder_that_cannot_be_made(sources, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(
        OSError, match=rf"cannot download into .*file \(.*\): name another folder with `--to`; .*{TWO_WAYS}"
    ):
        download_sam_checkpoint(tmp_path / "file")
    assert sources == []


# Command


@pytest.fixture
def main(monkeypatch):
    monkeypatch.setattr(cli, "VERBS", ("weights",))
    return cli.main


def test_command_tells_where_the_file_is(main, monkeypatch, tiny_checkpoint, capsys):
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tiny_checkpoint))

    assert main(["weights"]) == 0

    out = capsys.readouterr().out
    assert str(tiny_checkpoint) in out
    assert f"{tiny_checkpoint.stat().st_size} bytes" in out
    assert hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest() in out
    assert "published by Meta" not in out
    assert "export" not in out


def test_command_downloads_into_a_folder_and_says_what_to_export(main, monkeypatch, sources, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["weights", "--to", "my weights"]) == 0

    path = tmp_path / "my weights" / "sam_vit_b_01ec64.pth"
    assert f"export TPMAMBA_SAM_CHECKPOINT='{path}'" in capsys.readouterr().out
    assert path.is_file()


def test_command_fails_in_one_line_on_stderr(main, no_network, capsys):
    assert main(["weights"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nnUNetv2_tpmamba weights: no SAM ViT-B file was found")
    assert err.count("\n") == 1


def test_command_refuses_a_damaged_file(main, monkeypatch, tmp_path, capsys):
    (tmp_path / "sam.pth").write_text("404 not found")
    monkeypatch.setenv("TPMAMBA_SAM_CHECKPOINT", str(tmp_path / "sam.pth"))

    assert main(["weights"]) == 1
    assert "is no checkpoint" in capsys.readouterr().err


def test_command_has_help():
    program = "from nnunetv2_tpmamba import cli; cli.VERBS = ('weights',); cli.main(['weights', '-h'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)

    assert result.returncode == 0
    assert "TPMAMBA_SAM_CHECKPOINT" in result.stdout
    assert "--to DIR" in result.stdout
