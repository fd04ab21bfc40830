"""Stand-ins for the places that SAM's file comes from: caches, Meta's server, the Hugging Face hub, a dead network."""

import hashlib
import io
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import requests
import torch

from nnunetv2_tpmamba.networks.sam.models import VIT_B

TWO_WAYS = r"`nnUNetv2_tpmamba weights`.*TPMAMBA_SAM_CHECKPOINT.*sam_vit_b_01ec64\.pth.*model\.safetensors"
"""The advice that every message about SAM's file ends with, as a pattern."""


def empty_caches(monkeypatch, folder):
    """Let torch and Hugging Face keep their files below ``folder``, and no variable name a file."""
    monkeypatch.delenv("TPMAMBA_SAM_CHECKPOINT", raising=False)
    monkeypatch.delenv("TORCH_HUB", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    # huggingface_hub reads HF_HOME and HF_HUB_OFFLINE once, at import
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def answer_of(content):
    """What ``requests`` gives for a file of this content."""
    answer = requests.Response()
    answer.status_code, answer.raw = 200, io.BytesIO(content)
    return answer


def publish(monkeypatch, digest, model=VIT_B):
    """Let this be the SHA-256 of Meta's file."""
    monkeypatch.setitem(vars(model), "meta_sha256", digest)


def answer_with(monkeypatch, checkpoint, model=VIT_B):
    """Let both sources answer with this file, without a network; returns the log of their calls."""
    calls = []

    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()

    def meta(url, stream, timeout):
        assert url == model.meta_url
        calls.append("meta")
        return answer_of(checkpoint.read_bytes())

    def hub(repo_id, filename, local_dir):
        assert (repo_id, filename) == (model.hub_repository, "model.safetensors")
        calls.append("hub")
        return shutil.copy(checkpoint, Path(local_dir) / filename)

    monkeypatch.setattr(requests, "get", meta)
    publish(monkeypatch, digest, model)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: SimpleNamespace(etag=digest))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    return calls


def cut_network(monkeypatch):
    """Let no name be found on the network."""

    def unknown_host(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown_host)


def fail(error):
    """A function that raises this error, whatever it is called with."""

    def failing(*args, **kwargs):
        raise error

    return failing
