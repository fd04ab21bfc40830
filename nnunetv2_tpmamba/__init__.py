"""Tri-Plane Mamba adapters for SAM as an nnU-Net v2 trainer."""

from typing import TYPE_CHECKING, Any

from .config import TPMambaConfig

if TYPE_CHECKING:
    from .networks.tpmamba import TPMamba

__all__ = ["TPMamba", "TPMambaConfig"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "TPMamba":  # on first use, so that importing the package does not load torch and timm
        from .networks.tpmamba import TPMamba

        return TPMamba
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
