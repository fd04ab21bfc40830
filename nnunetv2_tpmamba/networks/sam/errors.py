"""The errors about SAM's file: each carries its reason, and says what to do about it."""

from .models import VIT_B, SamModel

OWN_SIZES = (
    "this network's config gives its encoder sizes of its own, so set TPMAMBA_SAM_CHECKPOINT to a file with an encoder "
    "of these sizes"
)


class SamFileError(Exception):
    """Training cannot start from SAM's weights.

    The text is the reason followed by advice. Whoever gives other advice, or quotes one error in another, takes
    ``reason`` alone.

    Args:
        reason: what is wrong, as a sentence without its full stop.
        model: whose file is needed; None for an encoder whose sizes are none of SAM's.
        remedy: what else can be done with this very file, as lines of their own; "" if nothing.
    """

    def __init__(self, reason: str, model: SamModel | None = VIT_B, remedy: str = "") -> None:
        super().__init__(reason, model, remedy)  # all arguments, so that a copy in another process has them
        self.reason = reason
        self.model = model
        self.remedy = remedy

    def __str__(self) -> str:
        advice = self.model.advice if self.model else OWN_SIZES
        return "\n".join(filter(None, (f"{self.reason}; {advice}", self.remedy)))


class MissingSamFileError(SamFileError, FileNotFoundError):
    """No SAM file was found, or none could be downloaded."""


class UnusableSamFileError(SamFileError, ValueError):
    """The file does not hold a complete encoder."""
