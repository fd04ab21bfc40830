"""Numbers that papers print of the same networks; what a paper prints of one trainer alone stands in its ``row``."""

from collections.abc import Mapping
from dataclasses import dataclass

ORGANS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_vein",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)
"""BTCV's classes, in the order of its labels 1 to 13, which is also the order of the paper's columns."""

_TABLE_1 = {
    24: """
        nnUNet    96.4 94.7 94.9 74.8 75.5 97.1 79.4 90.8 84.3 77.7 79.4 64.4 63.3
        VNet      92.8 91.7 93.0 70.5 72.2 96.1 81.0 88.7 83.5 68.1 77.9 64.2 60.1
        UNETR     91.5 92.8 91.2 60.2 72.0 93.0 80.1 87.5 80.2 67.8 71.8 61.6 57.4
        TransBTS  94.1 93.9 93.7 75.9 69.2 96.5 82.5 88.8 85.0 73.1 77.1 68.1 55.0
        SwinUNETR 95.7 94.4 94.1 71.5 75.7 96.9 78.8 90.1 85.7 74.5 80.7 66.7 64.6
        3D-UX-Net 95.3 94.2 93.6 71.9 71.6 96.5 82.3 90.4 84.8 71.3 76.8 67.5 66.4
        MedNeXt   96.5 95.0 95.0 71.5 77.2 97.2 81.7 91.0 85.4 77.1 79.3 68.0 65.9
        U-Mamba   95.8 94.5 94.6 73.8 75.1 96.9 81.7 90.8 84.7 75.7 79.3 64.4 57.7
        SAMed     93.4 94.7 94.9 76.2 75.5 96.7 78.7 90.6 84.1 78.1 77.9 64.1 63.9
        MA-SAM    96.3 94.9 94.8 73.3 74.8 97.1 82.4 90.8 83.6 76.5 79.8 63.8 63.7
        TP-Mamba  96.6 95.0 94.9 79.6 76.3 97.2 86.6 91.5 87.1 77.0 85.1 68.3 67.1
        """,
    6: """
        nnUNet    84.2 90.8 91.0 42.6 45.4 94.5 52.4 81.4 78.8 61.8 63.4 57.7 50.0
        VNet      74.1 85.0 81.5 44.7  0.0 86.8 46.7 77.1 76.4  0.2 46.7  0.0  0.0
        UNETR     78.1 86.2 80.1  0.0  0.0 90.6 42.1 78.6 64.4 40.4 32.1  0.0  0.0
        TransBTS  62.3 80.4 73.1 40.7  0.0 94.7 25.0 73.5 62.1 46.4 27.9  0.0  0.0
        SwinUNETR 83.0 89.8 89.2 36.1 55.2 90.3 59.2 83.6 77.2 65.2 60.8 60.4 54.1
        3D-UX-Net 76.4 87.8 88.3 53.1 64.0 94.1 47.8 85.5 81.2 66.7 59.0 58.9 56.6
        MedNeXt   81.3 91.4 90.1 52.6 57.1 92.8 50.8 84.4 78.7 68.4 64.7 63.3 59.1
        U-Mamba   87.2 87.6 87.4 46.6 63.5 92.8 42.6 82.9 74.5 66.7 64.9 48.5 46.2
        SAMed     90.8 89.2 90.0 62.1 64.4 94.4 64.5 87.0 78.8 69.2 70.0 56.6 52.8
        MA-SAM    90.9 92.5 92.7 74.2 63.8 95.9 63.6 86.6 81.8 71.1 70.6 57.2 53.4
        TP-Mamba  94.5 93.4 93.7 75.8 63.1 96.4 77.2 87.2 85.2 73.2 78.9 60.9 56.7
        """,
    3: """
        nnUNet    80.7 82.8 57.3  1.9 35.3 91.2 35.4 78.4 73.6 27.1 32.4  2.4  9.5
        VNet       1.9 54.6  0.0  0.0  0.0 81.7 25.1 36.6  1.9  0.0  0.0  0.0  0.0
        UNETR     72.4 56.7  0.0  0.0  0.0 87.9 26.4 26.7  0.0  0.0  0.5  0.0  0.0
        TransBTS  29.3 47.1 21.6  0.0  0.0 90.7 11.2 17.0  0.0 23.6  8.6  0.0  0.0
        SwinUNETR 64.3 79.5 58.8  7.5 45.6 90.7 37.7 79.4 69.6 49.4 26.4 38.6 32.8
        3D-UX-Net 72.0 80.5 67.2 26.1 43.8 89.5 35.4 80.9 74.3 45.6 17.2 42.3 16.6
        MedNeXt   42.1 76.3 62.0 36.1 55.6 87.5 36.0 80.1 70.0 58.3 37.4 29.9 24.5
        U-Mamba   66.9 72.8 58.9 20.9 51.5 90.7 36.2 78.9 71.1 42.0 13.6 36.0 10.2
        SAMed     49.6 78.0 68.0 33.8 50.9 89.5 41.0 82.3 71.3 62.3 42.4 29.9 25.5
        MA-SAM    64.1 84.0 75.5 33.2 55.4 92.6 45.2 84.1 72.8 58.8 37.6 30.1 33.1
        TP-Mamba  88.6 90.7 81.1 42.8 52.3 95.3 59.4 85.8 80.5 59.8 45.9 37.7 35.3
        """,
}


def organs_of_table_1() -> dict[int, dict[str, dict[str, float]]]:
    """Dice in % by the number of training cases, the paper's name of the row, and the organ.

    In the text of the paper's PDF the names of the organs are damaged, and in the rows nnUNet to TransBTS at 6 cases
    some numbers stand in a neighbouring row. They were put back so that the mean over the organs of each row is the
    printed mean, as it is in all other rows to 0.1.

    Source: Wang et al., MICCAI 2024, table 1; 6 and 3 cases are means of five draws.
    """
    return {cases: dict(map(_row, text.strip().splitlines())) for cases, text in _TABLE_1.items()}


def _row(line: str) -> tuple[str, dict[str, float]]:
    name, *values = line.split()
    return name, dict(zip(ORGANS, map(float, values), strict=True))


OURS_IN_LATER_TABLES: Mapping[str, tuple[str, Mapping[int, float]]] = {
    "table 2": ("MS conv (k=3)", {6: 78.9}),
    "table 3": ("tri-plane", {6: 78.7}),
    "table 4": ("r = 96", {6: 78.9}),
    "figure 1(c)": ("TP-Mamba", {}),
}
"""What the paper calls its own method in the tables after the first, in its order, and the Dice printed there."""


@dataclass(frozen=True)
class Revisited:
    """What "nnU-Net Revisited" measured of a network on BTCV.

    Args:
        trainer: of this package, with the same network.
        dice: mean over classes of a five-fold cross-validation, in %.
        memory_gb: of the GPU.
        hours: on an A100.
    """

    trainer: str
    network: str
    dice: float
    memory_gb: float
    hours: int


REVISITED = (
    Revisited("nnUNetTrainerTestbed_nnUNet", "nnU-Net", 83.08, 7.7, 9),
    Revisited("nnUNetTrainerTestbed_MedNeXt", "MedNeXt L, kernel 3", 84.70, 17.3, 68),
    Revisited("nnUNetTrainerTestbed_SwinUNETR", "SwinUNETR", 78.89, 13.1, 15),
    Revisited("nnUNetTrainerTestbed_UMambaBot", "U-Mamba Bot", 83.51, 12.4, 24),
    Revisited("nnUNetTrainerTestbed_UMambaEnc", "U-Mamba Enc", 82.41, 24.9, 47),
    Revisited("nnUNetTrainerTestbed_UMambaNone", "U-Mamba without Mamba", 83.69, 12.0, 24),
)
"""Isensee et al., "nnU-Net Revisited", MICCAI 2024, BTCV: trained from scratch in nnU-Net, each with its settings."""
