"""Step `install`: ftcheck in a virtual environment of its own, beside what the workflow has installed."""

import os
import subprocess
import venv
from pathlib import Path

from runner import INCOMPLETE, fail, folder, given, python_of

ACTION = Path(__file__).resolve().parents[2]


def main() -> None:
    """Install the release that is asked for, or the one that this action is part of."""
    environment = folder() / "environment"
    venv.create(environment, with_pip=True, clear=True)
    words = [str(python_of(environment)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    where = {**os.environ, "PIP_CACHE_DIR": str(folder() / "pip")}
    done = subprocess.run([*words, *_requirement(given("VERSION"), given("EXTRAS"))], env=where, check=False)
    if done.returncode:
        fail("ftcheck could not be installed: pip's message is in the log of this step", INCOMPLETE)
    subprocess.run([str(python_of(environment)), "-m", "ftcheck", "--version"], check=True)


def _requirement(version: str, extras: str) -> list[str]:
    """pip's arguments; what this action is part of is installed with the versions that it is tested with."""
    with_extras = f"[{extras}]" if extras else ""
    if not version:
        return ["--constraint", str(ACTION / "constraints.txt"), f"{ACTION}{with_extras}"]
    return [f"ftcheck{with_extras}" if version == "latest" else f"ftcheck{with_extras}=={version}"]


if __name__ == "__main__":
    main()
