"""Step `prepare`: validates the inputs and names the cache of packages."""

import hashlib
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from runner import fail, flag, folder, given, set_outputs

VERSION = re.compile(r"(latest|[0-9]+(\.[0-9]+){1,2}((a|b|rc)[0-9]+)?)?")
EXTRAS = re.compile(r"([a-z]+(,[a-z]+)*)?")
ACTION = Path(__file__).resolve().parents[2]


def main() -> None:
    """Refuse what pip must not see; say where it keeps its packages, and under which key."""
    version, extras = given("VERSION"), given("EXTRAS")
    if not VERSION.fullmatch(version):
        fail(
            "input 'version': must be empty (the release of this action), latest, or a version such as 0.1.0"
        )
    if not EXTRAS.fullmatch(extras):
        fail("input 'extras': must be names with commas between them, such as train,fast")
    for name in ("COMMENT", "SARIF"):
        flag(name)
    week = "-".join(map(str, datetime.now(UTC).isocalendar()[:2]))
    about = [platform.system(), platform.machine(), platform.python_version(), version, extras]
    start = f"ftcheck-{_digest('|'.join(about), *_requirements())}-"
    set_outputs({"cache": str(folder() / "pip"), "key": f"{start}{week}", "start": start})


def _requirements() -> list[str]:
    """What decides which packages are installed."""
    return [(ACTION / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt")]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


main()
