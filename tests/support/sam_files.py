"""SAM files as Meta and timm write them: ViT-B with random weights (about 375 and 360 MB), and small stand-ins."""

from pathlib import Path

import safetensors.torch
import timm
import torch
from segment_anything import sam_model_registry
from timm.models.vision_transformer_sam import checkpoint_filter_fn
from torch import Tensor

from nnunetv2_tpmamba.networks.sam.encoder import build_encoder
from nnunetv2_tpmamba.networks.sam.models import SamModel


def stand_in(model: SamModel) -> dict[str, Tensor]:
    """Every tensor of Meta's layout in its shape, each stored as the one number that it repeats."""
    with torch.device("meta"):
        encoder = build_encoder(model.config).state_dict()
    names = {f"image_encoder.{name.replace('.mlp.fc', '.mlp.lin')}": tensor.shape for name, tensor in encoder.items()}
    state = {name: torch.full((1,), 0.5).expand(shape) for name, shape in names.items()}
    return state | {"prompt_encoder.no_mask_embed.weight": torch.zeros(1, 256)}


def write_meta_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write the layout of Meta's sam_vit_b_01ec64.pth."""
    torch.save(_random_sam(seed), path)
    return path


def write_wrapped_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write the same weights as micro-sam's training leaves them: one entry of several, with a prefix."""
    torch.save({"epoch": 3, "model_state": {f"sam.{name}": x for name, x in _random_sam(seed).items()}}, path)
    return path


def write_timm_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write the image encoder of the same weights in timm's layout: safetensors if the name ends so, else pickled."""
    model = timm.create_model("samvit_base_patch16.sa1b", pretrained=False, num_classes=0)
    model.load_state_dict(checkpoint_filter_fn(_random_sam(seed), model), strict=True)
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path


def _random_sam(seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state_dict = sam_model_registry["vit_b"]().state_dict()
        for name, tensor in state_dict.items():
            if "pos_embed" in name or "rel_pos" in name:  # zero in a fresh model, which would hide their loss
                tensor.normal_(std=0.1)
    return state_dict
