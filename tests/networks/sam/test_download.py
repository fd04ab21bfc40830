import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import requests
import timm
import torch

from nnunetv2_tpmamba import cli
from nnunetv2_tpmamba.networks.sam import download as sam_download
from nnunetv2_tpmamba.networks.sam.download import download_sam_checkpoint, find_sam_checkpoint
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint

TWO_WAYS = r"`nnUNetv2_tpmamba weights`.*TPMAMBA_SAM_CHECKPOINT.*sam_vit_b_01ec64\.pth.*model\.safetensors"


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

    digest = hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()

    def meta(url, stream, timeout):
        assert url == sam_download.META_URL
        calls.append("meta")
        return answer_of(tiny_checkpoint.read_bytes())

    def hub(repo_id, filename, local_dir):
        assert (repo_id, filename) == ("timm/samvit_base_patch16.sa1b", "model.safetensors")
        calls.append("hub")
        return shutil.copy(tiny_checkpoint, Path(local_dir) / filename)

    monkeypatch.setattr(requests, "get", meta)
    monkeypatch.setattr(sam_download, "META_SHA256", digest)
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

    assert config.url == sam_download.META_URL
    assert config.hf_hub_id == sam_download.HUB_REPOSITORY


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
    for part in (str(tmp_path / "torch"), str(tmp_path / "hf"), sam_download.META_URL, sam_download.HUB_REPOSITORY):
        assert part in str(info.value)
    assert str(info.value).count("Name or service not known") == 2
    assert "Pool" not in str(info.value)  # of an HTTP client, which wraps that
    assert info.match(TWO_WAYS)
    assert [path.name for path in (tmp_path / "torch/hub/checkpoints").iterdir()] == [".sam_vit_b.lock"]


def test_a_server_that_never_answers_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(sam_download, "CONNECTION_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/file"
        monkeypatch.setattr(sam_download, "META_URL", url)
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
        for url in (sam_download.META_URL, huggingface_hub.hf_hub_url(sam_download.HUB_REPOSITORY, "x"))
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

    monkeypatch.setattr(sam_download, "META_SHA256", 64 * "0")
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
    monkeypatch.setattr(sam_download, "META_SHA256", hashlib.sha256(b"text").hexdigest())
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
        monkeypatch.setattr(sam_download, "META_URL", f"http://127.0.0.1:{server.server_port}/file")
        yield StallingServer
        server.shutdown()


def test_a_download_is_checked_and_shows_progress(monkeypatch, tiny_checkpoint, meta_server, tmp_path, capfd):
    content = tiny_checkpoint.read_bytes()
    monkeypatch.setattr(meta_server, "content", content)
    monkeypatch.setattr(meta_server, "promised", len(content))
    with pytest.raises(OSError, match="what came has the SHA-256"):
        download_sam_checkpoint(tmp_path / "new")
    assert find_names(tmp_path / "new") == []

    monkeypatch.setattr(sam_download, "META_SHA256", hashlib.sha256(content).hexdigest())
    assert download_sam_checkpoint(tmp_path / "new").read_bytes() == content
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err


def test_a_download_that_stalls_is_given_up(monkeypatch, tiny_checkpoint, meta_server, tmp_path):
    monkeypatch.setattr(meta_server, "content", tiny_checkpoint.read_bytes()[:1000])
    monkeypatch.setattr(meta_server, "promised", 2000)
    monkeypatch.setattr(sam_download, "STALL_TIMEOUT", 0.5)
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
    monkeypatch.setattr(sam_download.filelock, "FileLock", fail(OSError("no locks available")))

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
