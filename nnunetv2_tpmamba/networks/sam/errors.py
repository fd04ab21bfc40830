"""The errors about SAM's file: each carries its reason, and says what to do about it."""

ADVICE = (
    "a SAM ViT-B file is needed: run `nnUNetv2_tpmamba weights` on a machine with internet access (and copy the file), "
    "or set TPMAMBA_SAM_CHECKPOINT to a copy of Meta's sam_vit_b_01ec64.pth or of timm/samvit_base_patch16.sa1b's "
    "model.safetensors"
)


class SamFileError(Exception):
    """Training cannot start from SAM's weights.

    The text is the reason followed by :data:`ADVICE`. Whoever gives other advice, or quotes one error in another, takes
    ``reason`` alone.

    Args:
        reason: what is wrong, as a sentence without its full stop.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; {ADVICE}"


class MissingSamFileError(SamFileError, FileNotFoundError):
    """No SAM file was found, or none could be downloaded."""


class UnusableSamFileError(SamFileError, ValueError):
    """The file is not a complete SAM ViT-B."""
