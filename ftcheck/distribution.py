"""Which distribution is installed: the whole of ftcheck, or `ftcheck-policy` (folder `light`)."""

from importlib import metadata

WHOLE = "ftcheck"
LIGHT = "ftcheck-policy"


def version() -> str:
    """The version of the distribution that is installed."""
    try:
        return metadata.version(WHOLE)
    except metadata.PackageNotFoundError:
        return metadata.version(LIGHT)


def is_light() -> bool:
    """Whether only what `ftcheck policy check` needs is installed."""
    try:
        metadata.version(WHOLE)
    except metadata.PackageNotFoundError:
        return True
    return False
