"""The ablations of the paper's tables 2 to 4 and figure 1(c), and two controls of our own.

The paper trains them on a quarter of the cases. Its text changes one part of the full module (reading A, the plain
names); its numbers look like those of the part alone (reading B, the names that end in ``_only``). Both readings of a
row have the same printed Dice.
"""

from dataclasses import replace

from .row import Row
from .tpmamba import nnUNetTrainerTPMamba

PAPER = nnUNetTrainerTPMamba.config
NO_MAMBA = replace(PAPER, planes=())
NO_CONVOLUTION = replace(PAPER, dilations=(), conv_kernel=1)  # along depth; narrowing and widening see one slice each

FULL = "Reading A: all else is as in the full module."
ALONE = "Reading B: this part of the module alone."
WIDTH = "Only the width changes."


def of_table(table: int, name: str, dice: float, differs: str) -> Row:
    """A row of tables 2 to 4, whose Dice is for 6 training cases, a quarter."""
    return Row(f"table {table}", name, "written from the paper, Apache-2.0", {6: dice}, differs)


def of_figure(name: str, differs: str) -> Row:
    """An adapter of figure 1(c), which prints no Dice."""
    return Row("figure 1(c)", name, "written from the paper, Apache-2.0", {}, differs)


def control(name: str, differs: str) -> Row:
    """A network that the paper does not have."""
    return Row("controls that the paper does not have", name, "written here, Apache-2.0", {}, differs)


class nnUNetTrainerTPMamba_conv3(nnUNetTrainerTPMamba):
    """Table 2, reading A: a single convolution of kernel 3 in the place of the four dilated ones."""

    config = replace(PAPER, dilations=(1,))
    row = of_table(2, "conv (k=3)", 75.1, FULL)


class nnUNetTrainerTPMamba_conv5(nnUNetTrainerTPMamba):
    """Table 2, reading A: a single convolution, all convolutions along depth with kernel 5."""

    config = replace(PAPER, dilations=(1,), conv_kernel=5)
    row = of_table(2, "conv (k=5)", 75.9, FULL)


class nnUNetTrainerTPMamba_ms5(nnUNetTrainerTPMamba):
    """Table 2, reading A: the four dilated convolutions, all convolutions along depth with kernel 5."""

    config = replace(PAPER, conv_kernel=5)
    row = of_table(2, "MS conv (k=5)", 79.0, FULL)


class nnUNetTrainerTPMamba_conv3_only(nnUNetTrainerTPMamba):
    """Table 2, reading B: a single convolution of kernel 3, no Mamba."""

    config = replace(NO_MAMBA, dilations=(1,))
    row = of_table(2, "conv (k=3)", 75.1, ALONE)


class nnUNetTrainerTPMamba_ms3_only(nnUNetTrainerTPMamba):
    """Table 2, reading B: the four dilated convolutions of kernel 3, no Mamba; the same network as _nomamba."""

    config = NO_MAMBA
    row = of_table(2, "MS conv (k=3)", 78.9, ALONE)


class nnUNetTrainerTPMamba_conv5_only(nnUNetTrainerTPMamba):
    """Table 2, reading B: a single convolution, kernel 5 along depth, no Mamba."""

    config = replace(NO_MAMBA, dilations=(1,), conv_kernel=5)
    row = of_table(2, "conv (k=5)", 75.9, ALONE)


class nnUNetTrainerTPMamba_ms5_only(nnUNetTrainerTPMamba):
    """Table 2, reading B: the four dilated convolutions, kernel 5 along depth, no Mamba."""

    config = replace(NO_MAMBA, conv_kernel=5)
    row = of_table(2, "MS conv (k=5)", 79.0, ALONE)


class nnUNetTrainerTPMamba_volume(nnUNetTrainerTPMamba):
    """Table 3, reading A: one Mamba block reads all tokens of the volume as one sequence, slice after slice."""

    config = replace(PAPER, planes=("volume",))
    row = of_table(3, "Volume", 73.9, FULL)


class nnUNetTrainerTPMamba_hw(nnUNetTrainerTPMamba):
    """Table 3, reading A: one Mamba block reads the tokens of each slice."""

    config = replace(PAPER, planes=("hw",))
    row = of_table(3, "hw-plane", 74.4, FULL)


class nnUNetTrainerTPMamba_dw(nnUNetTrainerTPMamba):
    """Table 3, reading A: one Mamba block reads the tokens of each row along depth."""

    config = replace(PAPER, planes=("dw",))
    row = of_table(3, "dw-plane", 76.5, FULL)


class nnUNetTrainerTPMamba_volume_only(nnUNetTrainerTPMamba):
    """Table 3, reading B: the whole volume as one sequence, no convolution along depth."""

    config = replace(NO_CONVOLUTION, planes=("volume",))
    row = of_table(3, "Volume", 73.9, ALONE)


class nnUNetTrainerTPMamba_hw_only(nnUNetTrainerTPMamba):
    """Table 3, reading B: the tokens of each slice, no convolution along depth.

    What slices have in common is only the mean and variance of the instance norm.
    """

    config = replace(NO_CONVOLUTION, planes=("hw",))
    row = of_table(3, "hw-plane", 74.4, ALONE)


class nnUNetTrainerTPMamba_dw_only(nnUNetTrainerTPMamba):
    """Table 3, reading B: the tokens of each row along depth, no convolution along depth."""

    config = replace(NO_CONVOLUTION, planes=("dw",))
    row = of_table(3, "dw-plane", 76.5, ALONE)


class nnUNetTrainerTPMamba_triplane_only(nnUNetTrainerTPMamba):
    """Table 3, reading B: the three planes, no convolution along depth."""

    config = NO_CONVOLUTION
    row = of_table(3, "tri-plane", 78.7, ALONE)


class nnUNetTrainerTPMamba_r24(nnUNetTrainerTPMamba):
    """Table 4: adapters with 24 channels inside."""

    config = replace(PAPER, adapter_dim=24)
    row = of_table(4, "r = 24", 78.3, WIDTH)


class nnUNetTrainerTPMamba_r48(nnUNetTrainerTPMamba):
    """Table 4: adapters with 48 channels inside."""

    config = replace(PAPER, adapter_dim=48)
    row = of_table(4, "r = 48", 78.0, WIDTH)


class nnUNetTrainerTPMamba_r192(nnUNetTrainerTPMamba):
    """Table 4: adapters with 192 channels inside."""

    config = replace(PAPER, adapter_dim=192)
    row = of_table(4, "r = 192", 78.9, WIDTH)


class nnUNetTrainerTPMamba_lora(nnUNetTrainerTPMamba):
    """Figure 1(c): LoRA alone, no adapter after the blocks."""

    config = replace(PAPER, adapter="none")
    row = of_figure(
        "LoRA",
        "By its operations the figure's LoRA has rank 12 or so on q and v; ours has 64, as released.",
    )


class nnUNetTrainerTPMamba_conv_adapter(nnUNetTrainerTPMamba):
    """Figure 1(c): MA-SAM's convolution along depth in the place of the tri-plane module, 96 channels inside."""

    config = replace(PAPER, adapter="convolution")
    row = of_figure("3D convolution", "MA-SAM has two such adapters of 384 channels in every block, at other places.")


class nnUNetTrainerTPMamba_attention(nnUNetTrainerTPMamba):
    """Figure 1(c): self-attention over all tokens of the volume in the place of the tri-plane module.

    It is ``adapter_dim`` channels wide, between a narrowing and a widening layer.
    """

    config = replace(PAPER, adapter="attention")
    row = of_figure("SA", "The figure's attention is 768 channels wide by its count of operations, this one 96.")


class nnUNetTrainerTPMamba_nomamba(nnUNetTrainerTPMamba):
    """Control: the paper without its Mamba blocks; the same network as _ms3_only."""

    config = NO_MAMBA
    row = control("no Mamba", "It shows whether a gain comes from Mamba or from the convolutions.")


class nnUNetTrainerTPMamba_bidirectional(nnUNetTrainerTPMamba):
    """Control: each plane is also read backwards, by a Mamba block of its own."""

    config = replace(PAPER, bidirectional=True)
    row = control("both directions", "The paper reads each plane once, although its data have no direction.")
