"""The three sizes of SAM's encoder that Meta published: where their files are, and which trainer takes them."""

from dataclasses import dataclass

from nnunetv2_tpmamba.config import VIT_H_CONFIG, VIT_L_CONFIG, TPMambaConfig

META = "https://dl.fbaipublicfiles.com/segment_anything"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # the first is downloaded, either is used when cached


@dataclass(frozen=True)
class SamModel:
    """One size of SAM's encoder.

    Args:
        name: as segment_anything calls it.
        title: as people call it.
        config: its sizes.
        trainer: the trainer of the paper's network on it.
        meta_file: the file's name at Meta, in which the first six digits of its MD5 stand.
        meta_sha256: of that file. Source: ``micro_sam/util.py`` of micro-sam, whose downloads are checked with it;
            Meta itself publishes none.
        hub_repository: timm's on the Hugging Face hub.
    """

    name: str
    title: str
    config: TPMambaConfig
    trainer: str
    meta_file: str
    meta_sha256: str
    hub_repository: str

    @property
    def meta_url(self) -> str:
        return f"{META}/{self.meta_file}"

    @property
    def hub_file_kept_as(self) -> str:
        """A name for timm's file in a folder, since every repository of the hub has a ``model.safetensors``."""
        return f"{self.hub_repository.rpartition('/')[2]}.safetensors"

    @property
    def advice(self) -> str:
        """What to do where this model's file is missing or cannot be used."""
        command = "nnUNetv2_tpmamba weights" + ("" if self == VIT_B else f" --model {self.name}")
        return (
            f"a {self.title} file is needed: run `{command}` on a machine with internet access (and copy the file), or "
            f"set TPMAMBA_SAM_CHECKPOINT to a copy of Meta's {self.meta_file} or of {self.hub_repository}'s "
            f"{HUB_FILES[0]}"
        )


VIT_B = SamModel(
    name="vit_b",
    title="SAM ViT-B",
    config=TPMambaConfig(),
    trainer="nnUNetTrainerTPMamba",
    meta_file="sam_vit_b_01ec64.pth",
    meta_sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    hub_repository="timm/samvit_base_patch16.sa1b",
)
VIT_L = SamModel(
    name="vit_l",
    title="SAM ViT-L",
    config=VIT_L_CONFIG,
    trainer="nnUNetTrainerTPMamba_vitl",
    meta_file="sam_vit_l_0b3195.pth",
    meta_sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    hub_repository="timm/samvit_large_patch16.sa1b",
)
VIT_H = SamModel(
    name="vit_h",
    title="SAM ViT-H",
    config=VIT_H_CONFIG,
    trainer="nnUNetTrainerTPMamba_vith",
    meta_file="sam_vit_h_4b8939.pth",
    meta_sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    hub_repository="timm/samvit_huge_patch16.sa1b",
)
MODELS = {model.name: model for model in (VIT_B, VIT_L, VIT_H)}


def model_of(config: TPMambaConfig) -> SamModel | None:
    """The model whose encoder has the sizes of ``config``; None if the sizes are of one's own."""
    return next((model for model in MODELS.values() if model.config.encoder == config.encoder), None)


def model_of_width(embed_dim: int) -> SamModel | None:
    """The model whose tokens have ``embed_dim`` channels."""
    return next((model for model in MODELS.values() if model.config.embed_dim == embed_dim), None)
