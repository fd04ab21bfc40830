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
        remedy: what else can be done with this very file, as lines of their own; "" if nothing.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason, remedy)  # all arguments, so that a copy in another process has them
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return "\n".join(filter(None, (f"{self.reason}; {ADVICE}", self.remedy)))


class MissingSamFileError(SamFileError, FileNotFoundError):
    """No SAM file was found, or none could be downloaded."""


class UnusableSamFileError(SamFileError, ValueError):
    """The file does not hold a complete encoder."""
