"""axe-core, which finds what keeps people from reading a page: `python -m tests.browser.axe` fetches it once.

It is taken out of a wheel that ships it, with pip: a machine that has Python packages has it too. The wheel's
own code and what that depends on (a browser of its own) are not installed.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "axe-playwright-python==0.1.8"
VERSION = "4.12.1"
MEMBER = "axe_playwright_python/axe.min.js"
PLACE = Path(__file__).resolve().parents[2] / ".ftcheck" / f"axe-{VERSION}.min.js"


def script() -> str | None:
    """The text of axe-core; None where nobody fetched it."""
    place = Path(os.environ.get("FTCHECK_AXE") or PLACE)
    return place.read_text(encoding="utf-8") if place.is_file() else None


def fetch() -> Path:
    """Download the wheel and take the script out of it."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, WHEEL]
        subprocess.run(words, check=True)
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            text = archive.read(MEMBER)
    if VERSION.encode() not in text[:200]:
        raise SystemExit(f"{WHEEL} ships another axe-core than {VERSION}")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_bytes(text)
    return PLACE


if __name__ == "__main__":
    print(fetch())
