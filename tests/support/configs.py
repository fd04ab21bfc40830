"""Networks small enough for a test."""

from dataclasses import replace

import torch

from nnunetv2_tpmamba import TPMambaConfig

SIZES = {
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "window_size": 3,
    "global_attn_indexes": (1, 3),
    "encoder_image_size": 96,
    "lora_rank": 4,
    "adapter_dim": 8,
    "decoder_dim": 8,
}


def shrunk(config: TPMambaConfig) -> TPMambaConfig:
    """A network of the same build with every kind of part, for a fraction of a second on a CPU."""
    return replace(config, **{name: size for name, size in SIZES.items() if getattr(config, name)})


TINY = shrunk(TPMambaConfig())


def wake_up(network):
    """Give the layers that start at zero the weights a first step would give them, so that nothing is cut off."""
    for parameter in network.parameters():
        if parameter.requires_grad and torch.all(parameter == 0) and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    return network
