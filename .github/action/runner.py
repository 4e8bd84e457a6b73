"""What the steps of the action share: inputs from the environment, the runner's files, workflow commands.

Standard library only: these scripts run before ftcheck is installed, with whatever release is asked for.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

USAGE = 2
INCOMPLETE = 3
NOTHING = 4


def given(name: str) -> str:
    """An input of the action, from the environment: never from the text of a script."""
    return os.environ.get(f"FTCHECK_{name}", "").strip()


def flag(name: str) -> bool:
    """An input that is `true` or `false`; anything else ends the step."""
    value = given(name)
    if value not in ("true", "false"):
        fail(f"input '{name.lower()}': must be true or false, not {value or 'empty'}")
    return value == "true"


def set_outputs(values: Mapping[str, str]) -> None:
    """Set outputs of this step. The delimiter is random, so that no value can end it and add another."""
    lines = []
    for name, value in values.items():
        end = secrets.token_hex(16)
        lines.append(f"{name}<<{end}\n{value}\n{end}\n")
    append("GITHUB_OUTPUT", "".join(lines))


def append(variable: str, text: str) -> None:
    """Append to a file that the runner names in a variable; outside a runner there is none."""
    file = os.environ.get(variable)
    if file:
        with open(file, "a", encoding="utf-8") as opened:
            opened.write(text)


def tell(level: str, message: str) -> None:
    """An annotation without a place: `error`, `warning` or `notice`."""
    print(f"::{level} title=ftcheck::{escaped(message)}", flush=True)


def escaped(text: str) -> str:
    """A text as a workflow command takes it, on one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def fail(message: str, code: int = USAGE) -> NoReturn:
    """End the step with an error annotation."""
    tell("error", message)
    sys.exit(code)


def folder() -> Path:
    """Where the action keeps its own files in this job."""
    made = Path(os.environ["RUNNER_TEMP"]) / "ftcheck-action"
    made.mkdir(parents=True, exist_ok=True)
    return made


def identity() -> str:
    """Twelve hex digits that name this use of the action in each run of the workflow."""
    parts = [given(name) for name in ("POLICY", "WORKING_DIRECTORY", "ARGS")]
    parts += [os.environ.get(name, "") for name in ("GITHUB_WORKFLOW", "GITHUB_JOB")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
