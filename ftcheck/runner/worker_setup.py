"""What the parent hands to a worker at its start, and how it travels."""

import base64
import pickle
from dataclasses import dataclass
from pathlib import Path

from ftcheck.records import Check
from ftcheck.settings import Job


@dataclass(frozen=True, slots=True)
class Setup:
    """Plugins to load, the plan, the jobs, and the switches of the run.

    `digests` are those of the jobs' data files, by their names in the report.
    With `rows`, results name the rows that training could do without.
    `waived` are the fingerprints of findings that waivers name, by check.
    With `shares`, what is worked out for one job is taken over by jobs of which it would be the same.
    `poisoned` are inputs (job or None, name) that killed workers: they are not opened again.
    """

    checks: tuple[Check, ...]
    jobs: tuple[Job, ...]
    folder: Path
    plugins: tuple[str, ...] = ()
    rules_dirs: tuple[Path, ...] = ()
    offline: bool = False
    workers: int | None = None
    show_content: bool = False
    policy: str | None = None
    cache: bool = False
    digests: tuple[tuple[str, str], ...] = ()
    poisoned: tuple[tuple[str | None, str], ...] = ()
    rows: bool = False
    waived: tuple[tuple[str, frozenset[str]], ...] = ()
    shares: bool = False
    engine: str = "local"
    ray_address: str | None = None


def pack(setup: Setup) -> str:
    """One line of text. Only ever sent from the parent to its own worker, never the other way."""
    return base64.b64encode(pickle.dumps(setup)).decode("ascii")


def unpack(line: str) -> Setup:
    """The set-up from its line."""
    setup = pickle.loads(base64.b64decode(line))
    if not isinstance(setup, Setup):
        raise TypeError(f"not a set-up: {type(setup).__name__}")
    return setup
