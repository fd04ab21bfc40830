"""MONAI, from which four networks of table 1 and the parts of others come; it is an optional dependency."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

OLDEST = "1.5"  # the first with MedNeXt
ADVICE = f"pip install 'monai>={OLDEST}', or this package with its extra: pip install '.[baselines]'"


def require_monai() -> None:
    """Raise ``ImportError`` with one sentence of advice if MONAI is missing, too old or cannot be imported."""
    try:
        found = version("monai")
    except PackageNotFoundError:
        raise ImportError(f"this network needs MONAI, which is not installed: {ADVICE}") from None
    if Version(found) < Version(OLDEST):
        raise ImportError(f"this network needs MONAI {OLDEST} or newer, {found} is installed: {ADVICE}")
    try:
        import_module("monai.networks.nets")
    except Exception as error:  # whatever a broken installation raises
        raise ImportError(f"MONAI {found} is installed, but importing it fails ({error}): {ADVICE}") from error
