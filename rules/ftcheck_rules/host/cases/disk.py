"""Must-fail and must-pass inputs of disk-space and output-dir."""

import tempfile
from pathlib import Path

from ftcheck.settings import Job
from ftcheck.testing import Case, job


def _writing(name: str = "job") -> Job:
    """A job that would write into a folder that is not there; the check leaves nothing behind."""
    folder = Path(tempfile.gettempdir()) / "ftcheck-selftest" / name
    return job(name, training={"output_dir": str(folder)})


def _shared() -> Job:
    return job("other", training={"output_dir": _writing().training.output_dir})


CASES: tuple[Case, ...] = (
    Case(
        "disk-space",
        "more than any disk has free",
        True,
        lambda: {"jobs": (_writing(),)},
        {"min_free_gib": 1e12},
    ),
    Case("disk-space", "nothing asked for", False, lambda: {"jobs": (_writing(),)}, {"min_free_gib": 0.0}),
    Case("output-dir", "not named", True, lambda: {"jobs": (job(),)}),
    Case("output-dir", "one folder for two jobs", True, lambda: {"jobs": (_writing(), _shared())}),
    Case("output-dir", "a folder of its own", False, lambda: {"jobs": (_writing(), _writing("other"))}),
)
