"""What the tests of the templates share: the packages that a fresh environment finds, and a stand-in."""

from pathlib import Path

from ftcheck.extension.plugin_host import make_host
from tests.fresh_environments import packages

ASKED = ("gitlab", "html", "sarif")
"""Formats that the templates ask for."""
STAND_IN = """
from ftcheck import Reporter, hookimpl

@hookimpl
def ftcheck_reporters():
    return [Reporter(name, lambda report: "{}", "") for name in NAMES]
"""


def linked_packages(folder: Path) -> Path:
    """The packages of this environment without ftcheck, and a plugin that offers what no reporter does."""
    made = packages(folder)
    formats = [name for name in ASKED if name not in make_host().reporters]
    if formats:
        about = made / "standin-1.dist-info"
        about.mkdir()
        (made / "standin.py").write_text(f"NAMES = {formats}\n{STAND_IN}", encoding="utf-8")
        (about / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: standin\nVersion: 1\n", encoding="utf-8"
        )
        (about / "entry_points.txt").write_text("[ftcheck]\nstandin = standin\n", encoding="utf-8")
    return made


def plugins() -> str:
    """The line of a policy that loads the stand-in, where it is needed."""
    return "" if set(ASKED) <= set(make_host().reporters) else "plugins: [standin]\n"


def without_network(linked: Path) -> dict[str, str]:
    """pip installs what lies here, with the packages that are here."""
    return {"PYTHONPATH": str(linked), "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
