"""Lists the built-in loaders and reporters."""

from ftcheck import Loader, Reporter, hookimpl


@hookimpl
def ftcheck_loaders() -> list[Loader]:
    """Offer what opens the inputs of rules."""
    return []


@hookimpl
def ftcheck_reporters() -> list[Reporter]:
    """Offer the report formats."""
    return []
