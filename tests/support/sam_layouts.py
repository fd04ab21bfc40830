"""One small SAM as several packages and trainings save it; what each of them writes around the tensors is real."""

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from support.configs import TINY
from timm.models.vision_transformer_sam import VisionTransformerSAM, checkpoint_filter_fn

SIZES = {
    "embed_dim": TINY.embed_dim,
    "depth": TINY.depth,
    "num_heads": TINY.num_heads,
    "window_size": TINY.window_size,
    "global_attn_indexes": TINY.global_attn_indexes,
    "use_rel_pos": True,
}
"""What segment_anything and timm call by the same names."""


def small_sam(seed=0):
    """Meta's model in the sizes of the tests, with position terms that are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        grid = TINY.encoder_image_size // TINY.encoder_patch_size
        sam = Sam(
            ImageEncoderViT(img_size=TINY.encoder_image_size, norm_layer=norm, out_chans=32, **SIZES),
            PromptEncoder(32, (grid, grid), 2 * (TINY.encoder_image_size,), mask_in_chans=16),
            MaskDecoder(transformer_dim=32, transformer=TwoWayTransformer(2, 32, num_heads=2, mlp_dim=64)),
        )
        for name, parameter in sam.named_parameters():
            if "pos_embed" in name or "rel_pos" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return sam


def norm(width):
    return torch.nn.LayerNorm(width, eps=1e-6)


def with_prefix(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def bare(state):
    return {name.removeprefix("image_encoder."): x for name, x in state.items() if name.startswith("image_encoder.")}


def timms(state):
    model = VisionTransformerSAM(img_size=TINY.encoder_image_size, num_classes=0, neck_chans=32, **SIZES)
    model.load_state_dict(checkpoint_filter_fn(dict(state), model), strict=True)
    return model.state_dict()


def transformers_names(state):
    """The names that transformers gives the encoder; ``test_layouts.py`` compares them with the package's own."""
    changes = {"patch_embed.proj.": "patch_embed.projection.", "blocks.": "layers.", ".norm": ".layer_norm"}
    for old, new in changes.items():
        state = {name.replace(old, new): x for name, x in state.items()}
    return with_prefix("vision_encoder.", state)


def state_of_optimizer():
    """The state of a real optimizer after a step, as trainings save it beside the weights."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


LAYOUTS = {
    "Meta, the encoder alone": bare,
    "timm": timms,
    "transformers": lambda state: transformers_names(bare(state)),
    "DataParallel": lambda state: with_prefix("module.", state),
    "DataParallel around DataParallel": lambda state: with_prefix("module.module.", state),
    "MedSAM's training": lambda state: {"model": state, "optimizer": state_of_optimizer(), "epoch": 3},
    "micro-sam's training": lambda state: {
        "model_state": with_prefix("sam.", state),
        "optimizer_state": state_of_optimizer(),
        "decoder_state": {"out_conv.weight": torch.ones(2)},
        "epoch": 3,
        "current_metric": 0.5,
    },
    "Lightning": lambda state: {
        "state_dict": with_prefix("model.", state),
        "optimizer_states": [state_of_optimizer()],
        "hyper_parameters": {"lr": 1e-4},
        "callbacks": {},
    },
    "an unknown training": lambda state: {"weights": with_prefix("net.backbone.image_encoder.", state), "args": []},
}
"""What a file holds, from the state dict in Meta's own layout."""
