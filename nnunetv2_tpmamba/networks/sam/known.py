"""Which published weights a file holds: public files by their SHA-256, each with name, licence and its source.

Files of one name hold the same image encoder in different layouts. What is public is the SHA-256 of whole files, so a
file that somebody saved anew is unknown here, although its tensors may be those of a file below. None of these licences
forbids commercial use. MedicoSAM and micro-sam publish no SHA-256.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from nnunetv2_tpmamba.files import sha256, sha256_of_tensors

from .models import VIT_B, VIT_H, VIT_L, SamModel

APACHE = "Apache-2.0"
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Published:
    """What is public about a file.

    Args:
        name: of the weights; the same for every file that holds them.
        licence: of the weights, as their publisher gives it.
        source: the page on which the file's SHA-256 stands.
    """

    name: str
    licence: str
    source: str


def _meta(model: SamModel, page: str) -> Published:
    return Published(f"Meta {model.title}", APACHE, page)


MICRO_SAM = "https://github.com/computational-cell-analytics/micro-sam/blob/00006fc/micro_sam/util.py"
PUBLISHED = {
    **{model.meta_sha256: _meta(model, MICRO_SAM) for model in (VIT_B, VIT_L, VIT_H)},
    # timm
    "31a9f4edc394c5ae7a96045576570189a354ada86094a5842bcc9a05a8939ea2": _meta(
        VIT_B, f"{HUB}/timm/samvit_base_patch16.sa1b/blob/main/model.safetensors"
    ),
    "a9798021c4fa01b8d7df0d053d2b55e6c0a1f7d25611afad1018b84761bf1393": _meta(
        VIT_L, f"{HUB}/timm/samvit_large_patch16.sa1b/blob/main/model.safetensors"
    ),
    "2f924e2aa683b67977a9be54a3441653a49f6e8664358e549a19ff52f672aea5": _meta(
        VIT_H, f"{HUB}/timm/samvit_huge_patch16.sa1b/blob/refs%2Fpr%2F2/model.safetensors"
    ),
    # transformers
    "892c410e496344e527255ccdcb2cb7244a609acb5389c7c4fdba1288f861c579": _meta(
        VIT_B, f"{HUB}/facebook/sam-vit-base/blob/d0d9250bd6a38ebbb901aa29e8d37787e366f7be/model.safetensors"
    ),
    "1a1e860feeb895bc46f704d4faad2a0be739b5dfdca0ebdda520ffbcfb73f348": _meta(
        VIT_B, f"{HUB}/facebook/sam-vit-base/blob/01a63de230c16e8c32a2846b6f0cc8d92d74f08a/pytorch_model.bin"
    ),
    "a57e1b13cd1545938dfcbc9fb26df7f60de6650237a9383382a874a623564b81": _meta(
        VIT_L, f"{HUB}/facebook/sam-vit-large/blob/main/model.safetensors"
    ),
    "149bba0bfe0b10f856adb815c37000978ceda04ed3a373c54e565645ae6b7c53": _meta(
        VIT_L, f"{HUB}/facebook/sam-vit-large/blob/refs%2Fpr%2F2/pytorch_model.bin"
    ),
    "edfb0462392541fca9af44ff039bfb32dbd0c939997f3abb77a26e23af7afd7c": _meta(
        VIT_H, f"{HUB}/facebook/sam-vit-huge/blob/main/model.safetensors"
    ),
    "9a14fd58481d203300024d94128edfce246b4b0db7e0b548ed52bf63578cbc38": _meta(
        VIT_H, f"{HUB}/facebook/sam-vit-huge/blob/446a05e9403cc600309dec063f41cdd36162be49/pytorch_model.bin"
    ),
    # HQ-SAM, which trains another mask decoder on SAM's frozen encoder
    "14a9d662cd6f5a9c2dba6d40ab0058d88d287e4a18fd6fdc6ad5fb1a3fdeaa57": Published(
        "HQ-SAM ViT-B", APACHE, f"{HUB}/lkeab/hq-sam/commit/8a94b5e92b6a4997d813d9057f37a8cb6213082a"
    ),
    "e1a6c385d62bf005ded91a54d5ec55c985cfc4103ef89c08d90f39f04934c343": Published(
        "HQ-SAM ViT-L", APACHE, f"{HUB}/lkeab/hq-sam/commit/519b37f36c603d27fadf4000b8f8e10258b213eb"
    ),
    "a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35": Published(
        "HQ-SAM ViT-H", APACHE, f"{HUB}/lkeab/hq-sam/commit/67ab82412bc794d5ce2e9799b8b6a3c0a8cfe1d2"
    ),
    # MedSAM: the authors' medsam_vit_b.pth, their upload for transformers of May 2023, and another one of July 2023
    "34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74": Published(
        "MedSAM ViT-B",
        APACHE,
        f"{HUB}/spaces/dennistrujillo/MedSAM_AortaTest/blob/9ba0bac49412ef6481f666fb2931c9262a1bdfe8/medsam_vit_b.pth",
    ),
    "0ef67838fba16f16c0e308eaf7a3ae6fbf4fe8e13d7a120ca932671ed9c47db0": Published(
        "MedSAM ViT-B of May 2023", APACHE, f"{HUB}/wanglab/medsam-vit-base/blob/main/pytorch_model.bin"
    ),
    "b80a96478503f89e76f1f7bbba50cfcd4ec9e7467f0d5185310216b33946ec9c": Published(
        "MedSAM ViT-B of July 2023",
        APACHE,
        f"{HUB}/flaviagiammarino/medsam-vit-base/blob/7f4cdedabc736e857fb0406a8427b1ce6a2a3c03/pytorch_model.bin",
    ),
}
"""What is public, by the SHA-256 of a file."""


@dataclass(frozen=True)
class Encoder:
    """Which weights an encoder has.

    Args:
        name: of published weights; else what can be said of them, beginning with "unknown".
        licence: of published weights; "" if unknown.
        sha256: of the tensors, see :func:`nnunetv2_tpmamba.files.sha256_of_tensors`.
    """

    name: str
    licence: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}, {self.licence}" if self.licence else f"{self.name}, SHA-256 {self.sha256}"

    def as_dict(self) -> dict[str, str]:
        """Texts only, as a checkpoint can hold them without code."""
        return asdict(self)


def identify_file(file: Path, weights: Mapping[str, Tensor], model: SamModel | None) -> Encoder:
    """Say which weights a file holds.

    Args:
        file: the file.
        weights: what :func:`.weights.read_sam_checkpoint` read from it.
        model: the size they have; None if it is none of SAM's.
    """
    digest = sha256_of_tensors(weights)
    published = PUBLISHED.get(sha256(file))
    return Encoder(published.name, published.licence, digest) if published else unknown(digest, model)


def unknown(digest: str, model: SamModel | None) -> Encoder:
    """An encoder of which only its size and the SHA-256 of its tensors are known."""
    return Encoder(f"unknown {model.title if model else 'encoder'}", "", digest)
