"""MONAI, from which four networks of table 1 and the parts of others come; it is an optional dependency."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

OLDEST = "1.5"  # the first with MedNeXt
ADVICE = f"pip install 'monai>={OLDEST}', or this package with its extra: pip install '.[baselines]'"


def require_monai() -> None:
    """Raise ``ImportError`` with one sentence of advice if MONAI is missing, too old or cannot be imported."""
    problem = find_problem()
    if problem:
        raise ImportError(f"this network needs MONAI {OLDEST} or newer, but {problem}: {ADVICE}")


def find_problem() -> str | None:
    """What keeps MONAI from being used, such as ``"MONAI is not installed"``; None if nothing does."""
    try:
        found = version("monai")
    except PackageNotFoundError:
        return "MONAI is not installed"
    if Version(found) < Version(OLDEST):
        return f"MONAI {found} is installed"
    try:
        import_module("monai.networks.nets")
    except Exception as error:  # whatever a broken installation raises
        first_line = str(error).partition("\n")[0]
        return f"MONAI {found} cannot be imported ({type(error).__name__}: {first_line})"
    return None
