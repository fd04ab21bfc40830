"""Every number once, with its source.

"paper" is Wang et al., "Tri-Plane Mamba", MICCAI 2024; "code" is the authors' released SAM_Mamba; "SAM" is Kirillov et
al., ICCV 2023 (ViT-B); "Mamba" is Gu and Dao 2023; "nnU-Net" is the host's own default.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

PREEMPTED = 75
"""Exit status of a training that a signal stopped and ``--c`` continues; BSD's EX_TEMPFAIL, "try again later"."""

DEMO_SEED = 1
"""Random numbers of the demo's training, unless another seed is given."""

Orientation = Literal["RAS", "stored"]


@dataclass(frozen=True)
class Testbed:
    """What the paper holds equal for all networks it compares: data, augmentation and training.

    Source: paper 2.3, "The uniform framework serves as a standard testbed for evaluating all models".
    """

    # data
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)  # mm, paper 2.3
    patch_size: tuple[int, int, int] = (96, 96, 96)  # voxels, paper 2.3
    hu_window: tuple[float, float] = (-200.0, 250.0)  # HU, scaled to [0, 1], paper 2.3
    orientation: Orientation = "RAS"  # to which nnU-Net's reader turns images; "stored": to none
    batch_size: int = 1  # per GPU, paper 2.3

    # training
    initial_lr: float = 2e-4  # AdamW, falls to 0, paper 2.3
    weight_decay: float = 1e-2  # AdamW's default; the paper names no value
    num_epochs: int = 1000  # paper 2.3, nnU-Net
    num_iterations_per_epoch: int = 250  # nnU-Net
    num_val_iterations_per_epoch: int = 50  # nnU-Net
    save_every: int = 10  # epochs; nnU-Net saves every 50, which a kill then costs (its issue 2563)
    oversample_foreground: float = 0.5  # fraction of patches centred on a class; nnU-Net centres one of two
    mirroring: bool = True  # in training and, since nnU-Net couples the two, also at prediction
    ct_noise_scale: float = 0.25  # part of the HU window; 110 HU are one standard deviation of a CT for nnU-Net


@dataclass(frozen=True)
class TPMambaConfig:
    """What defines a network: the sizes of SAM's encoder, of the adapters and of the decoder."""

    # SAM image encoder
    embed_dim: int = 768  # SAM ViT-B
    depth: int = 12  # SAM ViT-B
    num_heads: int = 12  # SAM ViT-B
    window_size: int = 14  # tokens, SAM ViT-B; 0 = every block attends globally
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)  # SAM ViT-B
    encoder_image_size: int = 1024  # pixels the position embeddings were trained for, SAM
    encoder_patch_size: int = 16  # pixels of the enlarged slice, SAM and paper 2.3 ("ViT-B-16")
    in_plane_upsample: int = 2  # code: slices are enlarged before patch embedding; 1 = as the paper's text
    encoder_input: Literal["unit", "imagenet"] = "unit"  # code: [0, 1] as it is; else SAM's mean and deviation applied
    pretrained: bool = True  # SAM's weights, frozen; False = random weights, trained

    # adapters
    lora_rank: int = 64  # code (16 * 4), on q and v of every block; 0 = no LoRA
    adapter: Literal["tri-plane", "convolution", "attention", "none"] = "tri-plane"  # after every block, paper 2.1
    adapter_dim: int = 96  # r, paper table 4
    conv_kernel: int = 3  # slices that a convolution along depth reads, paper 2.2 and table 2
    dilations: tuple[int, ...] = (1, 2, 4, 8)  # paper 2.2; (1,) = a single convolution, () = none
    planes: tuple[str, ...] = ("hw", "dw", "dh")  # that Mamba blocks read, paper 2.2; also "volume"; () = no Mamba
    bidirectional: bool = False  # each plane is also read backwards, by a Mamba block of its own; not the paper's
    d_state: int = 16  # Mamba and code
    d_conv: int = 4  # Mamba and code
    expand: int = 2  # Mamba and code

    # decoder
    decoder_dim: int = 64  # code

    # memory
    checkpointing: bool | None = None  # recompute blocks in the backward pass; None = if free memory asks for it

    @property
    def token_size(self) -> int:
        """Voxels of the input on a side of a token."""
        return self.encoder_patch_size // self.in_plane_upsample

    @property
    def encoder(self) -> dict[str, Any]:
        """The sizes of SAM's encoder, which a file of weights must have."""
        return {name: getattr(self, name) for name in ENCODER_SIZES}


ENCODER_SIZES = (
    "embed_dim",
    "depth",
    "num_heads",
    "window_size",
    "global_attn_indexes",
    "encoder_image_size",
    "encoder_patch_size",
)
VIT_L_CONFIG = replace(TPMambaConfig(), embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23))
"""The paper's network on SAM ViT-L; the sizes are segment_anything's."""

VIT_H_CONFIG = replace(TPMambaConfig(), embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31))
"""The paper's network on SAM ViT-H; the sizes are segment_anything's."""


MASAM_CONFIG = replace(TPMambaConfig(), adapter="convolution", adapter_dim=384)
"""MA-SAM's adapters, two of 384 channels per block (its authors' ``adapter_channels``), in the paper's network."""
