"""The sizes and the device of a measurement; importing this module does not import torch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nnunetv2_tpmamba.config import Testbed, TPMambaConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")
SMALL_CONFIG = replace(
    TPMambaConfig(),
    embed_dim=32,
    depth=4,
    num_heads=2,
    window_size=3,
    global_attn_indexes=(2,),
    encoder_image_size=128,
    lora_rank=4,
    adapter_dim=8,
    decoder_dim=8,
)
"""A network with every kind of part that takes seconds, to try the command itself."""


def _fp16() -> AbstractContextManager:
    import torch

    return torch.autocast("cuda")


def _on_cpu(name: str) -> AbstractContextManager:
    from nnunetv2_tpmamba.networks import precision

    return precision.using(precision.PRECISIONS[name])


FLOAT32, BFLOAT16, FP16 = "float32", "bfloat16", "fp16 autocast"
PRECISIONS: dict[str, Callable[[], AbstractContextManager]] = {
    FLOAT32: partial(_on_cpu, FLOAT32),
    BFLOAT16: partial(_on_cpu, BFLOAT16),
    FP16: _fp16,
}
"""The contexts in which a network is called, by the precision that it then computes in."""


@dataclass(frozen=True)
class Setting:
    """The device and the sizes of a measurement; sizes are in voxels of 1 mm.

    Args:
        device: where the calls run.
        precision: what the calls compute in, a key of ``PRECISIONS``. To measure another one beside it, a task makes a
            contestant from ``replace(setting, precision=...)``.
        config: the network's numbers.
        patch_size: what the network is given at a time.
        num_classes: classes of the segmentation, background included; BTCV has 14.
        stock_patch: side of the cubes that stock nnU-Net plans for abdominal CTs at 1 mm.
        ct: side of the cubic CT to predict.
        mirroring: predict every patch in its eight mirror images, as nnU-Net does.
        matrix: side of the matrices whose product shows what the device can do.
        small: the sizes are tiny, and the times mean nothing.
        compiles: on a GPU training steps are compiled too, as nnU-Net does, which takes a minute for each network.
        rows: names of the trainers to measure as rows, or "all"; none means every row of the paper's tables.
    """

    device: "torch.device"
    precision: str = FLOAT32
    config: TPMambaConfig = field(default_factory=TPMambaConfig)
    patch_size: tuple[int, int, int] = Testbed.patch_size
    num_classes: int = 14
    stock_patch: int = 128
    ct: int = 300
    mirroring: bool = True
    matrix: int = 8192
    small: bool = False
    compiles: bool = True
    rows: tuple[str, ...] = ()

    @classmethod
    def of(cls, device: "torch.device", small: bool = False, rows: Sequence[str] = ()) -> "Setting":
        """Choose the full sizes, on a CPU with a smaller CT to predict, or tiny sizes."""
        precision = FP16 if device.type == "cuda" else FLOAT32  # as nnU-Net
        if small:
            return cls(
                device,
                precision,
                SMALL_CONFIG,
                patch_size=(32, 32, 32),
                num_classes=3,
                stock_patch=32,
                ct=40,
                mirroring=False,
                matrix=64,
                small=True,
                rows=tuple(rows),
            )
        if device.type == "cuda":
            return cls(device, precision, rows=tuple(rows))
        return cls(device, precision, ct=144, mirroring=False, matrix=2048, rows=tuple(rows))

    @property
    def grid6(self) -> TPMambaConfig:
        """The config of the trainer ``nnUNetTrainerTPMamba_grid6``."""
        return replace(self.config, in_plane_upsample=1)

    def grid_of(self, config: TPMambaConfig) -> tuple[int, int]:
        """Return how many tokens a network of these numbers makes on the two sides of a patch's slice."""
        _, height, width = self.patch_size
        return height // config.token_size, width // config.token_size

    def lowered(self) -> list["Setting"]:
        """The same with bfloat16, if this is a CPU that has it; else none."""
        from nnunetv2_tpmamba.networks.precision import has_bfloat16

        return [replace(self, precision=BFLOAT16)] if self.device.type == "cpu" and has_bfloat16() else []

    def build(self, make: Callable[[], Network]) -> Network:
        """Return a network that is built on the device: a CPU takes seconds to draw the weights of one like SAM."""
        with self.device:
            return make().to(self.device)

    def autocast(self) -> AbstractContextManager:
        """Return the context in which networks compute in this precision."""
        return PRECISIONS[self.precision]()
