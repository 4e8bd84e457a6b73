"""What the tests of the templates share: an environment of pip that needs no network."""

from pathlib import Path


def without_network(linked: Path) -> dict[str, str]:
    """pip installs what lies here, with the packages that are here."""
    return {"PYTHONPATH": str(linked), "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
