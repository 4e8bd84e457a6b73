"""Must-fail and must-pass inputs of the host rules: environment, gpu, disk-space, output-dir."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftcheck.settings import Job
from ftcheck.testing import gpu, job, machine, packages
from ftcheck_rules.cases import Case

INSTALLED = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "datasets": "5.2.0",
    "peft": "0.21.2",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
}


def _environment(**versions: str | None) -> Mapping[str, Any]:
    return {"packages": packages("3.11.7", **{**INSTALLED, **versions}), "jobs": (job(),)}


def _writing(name: str = "job") -> Job:
    """A job that would write into a folder that is not there; the check leaves nothing behind."""
    folder = Path(tempfile.gettempdir()) / "ftcheck-selftest" / name
    return job(name, training={"output_dir": str(folder)})


CASES: tuple[Case, ...] = (
    Case("environment", "trl from before 1.16", True, lambda: _environment(trl="0.24.0")),
    Case("environment", "peft missing beside trl", True, lambda: _environment(peft=None)),
    Case("environment", "versions that fit", False, _environment),
    Case(
        "gpu",
        "none where one is required",
        True,
        lambda: {"machine": machine(), "jobs": ()},
        {"require": True},
    ),
    Case(
        "gpu",
        "bfloat16 on a T4",
        True,
        lambda: {"machine": machine(gpu("Tesla T4", 15, (7, 5))), "jobs": (job(),)},
    ),
    Case("gpu", "an H100", False, lambda: {"machine": machine(gpu()), "jobs": (job(),)}),
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


def _shared() -> Job:
    return job("other", training={"output_dir": _writing().training.output_dir})
