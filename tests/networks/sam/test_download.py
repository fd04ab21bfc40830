"""Downloading SAM's file: whole, checked, once, and given up when a source does not deliver."""

import hashlib
import os
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
from support.sam_files import stand_in
from support.sam_sources import TWO_WAYS, answer_of, answer_with, fail, publish

from nnunetv2_tpmamba.networks.sam import download as sam_download
from nnunetv2_tpmamba.networks.sam import models
from nnunetv2_tpmamba.networks.sam.download import download_sam_checkpoint
from nnunetv2_tpmamba.networks.sam.models import MODELS, VIT_B
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint, read_sam_checkpoint_of_any_size

pytestmark = pytest.mark.usefixtures("empty_caches")


@pytest.mark.parametrize(("name", "size"), [("vit_b", "base"), ("vit_l", "large"), ("vit_h", "huge")])
def test_sources_are_those_of_timm(name, size):
    config = timm.get_pretrained_cfg(f"samvit_{size}_patch16.sa1b")

    assert config.url == MODELS[name].meta_url
    assert config.hf_hub_id == MODELS[name].hub_repository


def find_names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".sam_vit_b.lock")


def test_downloads_from_the_hub_if_meta_is_out_of_reach(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", fail(TimeoutError("timed out")))

    path = download_sam_checkpoint(to=tmp_path / "new" / "folder")

    assert path == tmp_path / "new" / "folder" / "samvit_base_patch16.sa1b.safetensors"
    assert sources == ["hub"]
    assert find_names(path.parent) == [path.name]
    assert download_sam_checkpoint(to=path.parent) == path
    assert sources == ["hub"]


@pytest.mark.parametrize(("name", "reachable"), [("vit_l", "meta"), ("vit_h", "hub")])
def test_a_larger_sam_is_downloaded_under_its_own_name(name, reachable, monkeypatch, tmp_path):
    model = MODELS[name]
    torch.save(stand_in(model), tmp_path / "sam.pth")
    calls = answer_with(monkeypatch, tmp_path / "sam.pth", model)
    if reachable == "hub":
        monkeypatch.setattr(requests, "get", fail(TimeoutError("timed out")))

    path = download_sam_checkpoint(model, tmp_path / "new")

    assert path.name == {"meta": model.meta_file, "hub": model.hub_file_kept_as}[reachable]
    assert calls == [reachable]
    assert read_sam_checkpoint_of_any_size(path)[0] == model


def test_a_download_of_another_size_is_not_kept(monkeypatch, tiny_checkpoint, tmp_path):
    answer_with(monkeypatch, tiny_checkpoint, MODELS["vit_l"])
    with pytest.raises(OSError, match=r"from https://.*\(.* is SAM ViT-B, which is for -tr nnUNetTrainerTPMamba\) nor"):
        download_sam_checkpoint(MODELS["vit_l"], tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".sam_vit_l.lock"]


def test_an_error_of_any_kind_from_both_sources_is_told(monkeypatch, sources, tmp_path):
    class UnknownClientError(Exception):
        pass

    publish(monkeypatch, 64 * "0")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail(UnknownClientError()))

    with pytest.raises(
        OSError,
        match=rf"from https://.*\(what came .* published is 0000.*nor from .*\(UnknownClientError\); .*{TWO_WAYS}",
    ):
        download_sam_checkpoint(to=tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def test_a_download_of_something_else_is_not_kept(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: answer_of(b"<html>Log in</html>"))

    assert download_sam_checkpoint(to=tmp_path / "new").name == "samvit_base_patch16.sa1b.safetensors"
    assert find_names(tmp_path / "new") == ["samvit_base_patch16.sa1b.safetensors"]


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
        monkeypatch.setattr(models, "META", f"http://127.0.0.1:{server.server_port}")
        yield StallingServer
        server.shutdown()


def test_a_download_is_checked_and_shows_progress(monkeypatch, tiny_checkpoint, meta_server, tmp_path, capfd):
    content = tiny_checkpoint.read_bytes()
    monkeypatch.setattr(meta_server, "content", content)
    monkeypatch.setattr(meta_server, "promised", len(content))
    with pytest.raises(OSError, match="what came has the SHA-256"):
        download_sam_checkpoint(to=tmp_path / "new")
    assert find_names(tmp_path / "new") == []

    publish(monkeypatch, hashlib.sha256(content).hexdigest())
    assert download_sam_checkpoint(to=tmp_path / "new").read_bytes() == content
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err


def test_a_download_that_stalls_is_given_up(monkeypatch, tiny_checkpoint, meta_server, tmp_path):
    monkeypatch.setattr(meta_server, "content", tiny_checkpoint.read_bytes()[:1000])
    monkeypatch.setattr(meta_server, "promised", 2000)
    monkeypatch.setattr(sam_download, "STALL_TIMEOUT", 0.5)
    with pytest.raises(OSError, match=r"could not download from http.*timed out.* nor from .*no hub"):
        download_sam_checkpoint(to=tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def test_a_hub_that_sends_something_else_or_not_over_https_is_refused(monkeypatch, sources, tmp_path):
    monkeypatch.setattr(requests, "get", fail(TimeoutError("timed out")))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: SimpleNamespace(etag=64 * "0"))
    with pytest.raises(OSError, match=r"from Hugging Face's .*what came has the SHA-256 .* published is 0000"):
        download_sam_checkpoint(to=tmp_path / "new")
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repo_id, filename: "http://mirror/file")
    with pytest.raises(OSError, match="http://mirror/file is not https"):
        download_sam_checkpoint(to=tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def test_an_interrupted_download_leaves_nothing(monkeypatch, sources, tmp_path):
    def interrupt(size):
        yield b"PK\x03\x04 and then"
        raise KeyboardInterrupt

    answer = answer_of(b"")
    answer.iter_content = interrupt
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: answer)

    with pytest.raises(KeyboardInterrupt):
        download_sam_checkpoint(to=tmp_path / "new")
    assert find_names(tmp_path / "new") == []


def download_in_threads(monkeypatch, folder, n):
    get = requests.get

    def slow(*args, **kwargs):
        time.sleep(0.5)
        return get(*args, **kwargs)

    monkeypatch.setattr(requests, "get", slow)
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(download_sam_checkpoint(to=folder))) for _ in range(n)]
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
        download_sam_checkpoint(to=tmp_path / "file")
    assert sources == []


def test_a_server_that_never_answers_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(sam_download, "CONNECTION_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(models, "META", url)
        monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repo_id, filename: url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

        start = time.monotonic()
        with pytest.raises(OSError, match=r"could not download from .*timed out.* nor from .*timed out"):
            download_sam_checkpoint(to=tmp_path / "new")

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
        for url in (VIT_B.meta_url, huggingface_hub.hf_hub_url(VIT_B.hub_repository, "x"))
    ]
