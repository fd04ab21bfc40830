"""U-Mamba: a residual U-Net that mixes its encoder's features with Mamba, at the bottleneck or after every stage."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from einops import rearrange
from torch import Tensor, nn

from ..autocast import bounded
from ..mamba import MambaBlock
from .patches import check_multiples

Sizes = Sequence[Sequence[int]]
BLOCK: dict[str, Any] = {
    "conv_op": nn.Conv3d,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"negative_slope": 1e-2, "inplace": True},
}


def check_patch_size(patch_size: Sequence[int], strides: Sizes) -> None:
    """Raise ``ValueError``, with a size that is good, for a patch that the strides do not divide.

    Args:
        patch_size: voxels, ``(D, H, W)``.
        strides: of the stages, ``(D, H, W)`` each.
    """
    check_multiples(tuple(patch_size), tuple(math.prod(axis) for axis in zip(*strides, strict=True)))


def build_umamba(
    input_channels: int,
    num_classes: int,
    patch_size: Sequence[int],
    features_per_stage: Sequence[int],
    strides: Sizes,
    kernel_sizes: Sizes,
    mamba: Literal["bottleneck", "encoder", "none"],
) -> nn.Module:
    """U-Mamba on a topology that nnU-Net has planned, with random weights and the heads of all resolutions.

    Args:
        input_channels: of the volume.
        num_classes: maps to predict, background included.
        patch_size: voxels, ``(D, H, W)``.
        features_per_stage, strides, kernel_sizes: of the encoder's stages, the finest first.
        mamba: after which stages there is a Mamba layer: the last (U-Mamba Bot), all (U-Mamba Enc) or none.

    Raises:
        ValueError: the strides do not divide the patch.
    """
    check_patch_size(patch_size, strides)
    stages = len(features_per_stage)
    blocks = [2] * math.ceil(stages / 2) + [1] * (stages // 2)
    layers: list[nn.Module] = [nn.Identity()] * stages
    only_size = None
    for stage in {"none": range(0), "bottleneck": range(stages - 1, stages), "encoder": range(stages)}[mamba]:
        channels = features_per_stage[stage]
        voxels = math.prod(patch_size) // math.prod(step for stride in strides[: stage + 1] for step in stride)
        if mamba == "encoder" and voxels <= channels:
            layers[stage] = MambaLayer(voxels, tokens="B C (D H W)")
            only_size = tuple(patch_size)
        else:
            layers[stage] = MambaLayer(channels, tokens="B (D H W) C")
    network = UMamba(
        Encoder(input_channels, features_per_stage, strides, kernel_sizes, blocks, layers),
        Decoder(num_classes, features_per_stage, strides, kernel_sizes, blocks[:-1]),
        only_size,
    )
    return network.apply(InitWeights_He(1e-2))


class UMamba(nn.Module):
    """A residual encoder with Mamba layers, and a residual decoder with a head for each resolution.

    While ``decoder.deep_supervision`` is on, the result is a list, the finest first, in training and in evaluation.
    Under autocast the residual stream stays float32, and so does what reads it without a norm behind: the shortcuts are
    not normalised, hence nothing bounds the stream.

    Source: Ma et al., "U-Mamba", 2024 (arXiv 2401.04722), section 2 and figure 1; the order of layers and the number of
    blocks are facts of the authors' code (bowang-lab/U-Mamba), for plans with two convolutions per stage.

    Args:
        only_size: voxels of the only input that the Mamba layers take; None if they take any.

    Shape:
        input ``(B, input_channels, D, H, W)``; outputs ``(B, num_classes, ...)``.

    Raises:
        ValueError: the input has another size than ``only_size``.
    """

    def __init__(self, encoder: "Encoder", decoder: "Decoder", only_size: tuple[int, ...] | None) -> None:
        super().__init__()
        self.encoder, self.decoder, self.only_size = encoder, decoder, only_size

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        size = tuple(volume.shape[2:])
        if self.only_size is not None and size != self.only_size:
            raise ValueError(
                f"the input has {size} voxels, and this U-Mamba takes {self.only_size} only, because its coarsest "
                "Mamba layers have weights for each voxel: give it that size, or train U-Mamba Bot, which takes others"
            )
        return self.decoder(self.encoder(volume))


class Encoder(nn.Module):
    """A stem at full resolution, then stages of residual blocks, each with what mixes its result; returns them all.

    Args:
        blocks: residual blocks of each stage; the stem has as many as the first.
        mamba_layers: what comes after each stage.
    """

    def __init__(
        self,
        input_channels: int,
        features_per_stage: Sequence[int],
        strides: Sizes,
        kernel_sizes: Sizes,
        blocks: Sequence[int],
        mamba_layers: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        inputs = [features_per_stage[0], *features_per_stage[:-1]]
        self.stem = residual_blocks(input_channels, inputs[0], kernel_sizes[0], (1, 1, 1), blocks[0])
        sizes = zip(inputs, features_per_stage, kernel_sizes, strides, blocks, strict=True)
        self.stages = nn.ModuleList(residual_blocks(*of_stage) for of_stage in sizes)
        self.mamba_layers = nn.ModuleList(mamba_layers)

    def forward(self, volume: Tensor) -> list[Tensor]:
        x = self.stem(volume)
        features = []
        for stage, mamba_layer in zip(self.stages, self.mamba_layers, strict=True):
            x = mamba_layer(stage(x))
            features.append(x)
        return features


class Decoder(nn.Module):
    """Enlarge the coarsest features level by level, join each with the encoder's, and predict from each.

    Args:
        blocks: residual blocks of each level, the coarsest first.
    """

    def __init__(
        self,
        num_classes: int,
        features_per_stage: Sequence[int],
        strides: Sizes,
        kernel_sizes: Sizes,
        blocks: Sequence[int],
    ) -> None:
        super().__init__()
        self.deep_supervision = True
        self.upsamplings, self.stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        levels = range(len(features_per_stage) - 2, -1, -1)
        for level, number in zip(levels, blocks, strict=True):
            below, channels = features_per_stage[level + 1], features_per_stage[level]
            enlarge = nn.Upsample(scale_factor=tuple(strides[level + 1]), mode="nearest")
            # the authors convolve what is enlarged, which gives the same and costs more
            self.upsamplings.append(nn.Sequential(Float32Conv3d(below, channels, 1), enlarge))
            self.stages.append(residual_blocks(2 * channels, channels, kernel_sizes[level], (1, 1, 1), number))
            self.seg_layers.append(Float32Conv3d(channels, num_classes, 1))

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        x, *skips = reversed(features)
        outputs = []
        for upsampling, skip, stage, head in zip(self.upsamplings, skips, self.stages, self.seg_layers, strict=True):
            x = stage(torch.cat([upsampling(x), skip], dim=1))
            if self.deep_supervision or head is self.seg_layers[-1]:
                outputs.append(head(x))
        return outputs[::-1] if self.deep_supervision else outputs[-1]


class MambaLayer(nn.Module):
    """Layer norm and a Mamba block on the voxels in raster order, or on the channels, in float32 under any autocast.

    Args:
        width: of a token: the channels, or the voxels where the channels are the tokens.
        tokens: einops' word for the sequence, made of ``B C D H W``.

    Shape:
        input and output ``(B, C, D, H, W)``; nothing is added to the input, and no norm follows.
    """

    def __init__(self, width: int, tokens: str) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm = nn.LayerNorm(width)
        self.mamba = MambaBlock(width, d_state=16, d_conv=4, expand=2)

    def forward(self, x: Tensor) -> Tensor:
        D, H, W = x.shape[2:]
        with torch.autocast(x.device.type, enabled=False):
            mixed = self.mamba(self.norm(rearrange(x, f"B C D H W -> {self.tokens}")))
        return rearrange(mixed, f"{self.tokens} -> B C D H W", D=D, H=H, W=W)


class Float32Conv3d(nn.Conv3d):
    """A convolution in float32 under any autocast."""

    def __init__(self, input_channels: int, output_channels: int, kernel_size: int, stride: Sequence[int] = (1, 1, 1)):
        super().__init__(input_channels, output_channels, kernel_size, tuple(stride))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class ResidualBlock(BasicBlockD):
    """Two convolutions with instance norm, added to the input, of which a 1x1x1 convolution may change the shape.

    The second convolution reads what is normalised. The first one reads the residual stream, scaled down where fp16
    could not hold its sums; the norm after it takes scale and bias away.
    """

    def __init__(
        self,
        input_channels: int,
        output_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (1, 1, 1),
        projects: bool = False,
    ) -> None:
        sizes = {"input_channels": input_channels, "output_channels": output_channels}
        super().__init__(**sizes, kernel_size=kernel_size, stride=stride, **BLOCK)
        if projects:  # BasicBlockD pools, and has no bias but a norm
            self.skip = Float32Conv3d(input_channels, output_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.skip(x)
        return self.nonlin2(self.conv2(self.conv1(bounded(x))) + shortcut)


def residual_blocks(
    input_channels: int, output_channels: int, kernel_size: Sequence[int], stride: Sequence[int], number: int
) -> nn.Sequential:
    """Residual blocks in sequence, of which the first one changes the channels and the resolution."""
    return nn.Sequential(
        ResidualBlock(input_channels, output_channels, kernel_size, stride, projects=True),
        *(ResidualBlock(output_channels, output_channels, kernel_size) for _ in range(number - 1)),
    )
