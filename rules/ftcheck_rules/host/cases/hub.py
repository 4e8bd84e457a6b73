"""Must-fail and must-pass inputs of the hub rules: hub-access, trackers."""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs.environment import Environment
from ftcheck.inputs.repository import Repository
from ftcheck.testing import Case, environment, job, packages, repository

GIB = 1 << 30


def _hub(here: Environment, found: Repository) -> Mapping[str, Any]:
    return {"job": job(model={"name": found.name}), "environment": here, "repository": found}


def _reporting(to: str, here: Environment, **versions: str | None) -> Mapping[str, Any]:
    one = job(training={"report_to": to})
    return {"job": one, "packages": packages("3.11.7", **versions), "environment": here}


CASES: tuple[Case, ...] = (
    Case("hub-access", "offline without a copy", True, lambda: _hub(environment(offline=True), repository())),
    Case(
        "hub-access",
        "gated, and no token",
        True,
        lambda: _hub(environment(hub_token=False), repository(gated=True)),
    ),
    Case(
        "hub-access",
        "larger than the disk",
        True,
        lambda: _hub(environment(cache_free=2 * GIB), repository(size=16 * GIB)),
    ),
    Case("hub-access", "on the hub, and room for it", False, lambda: _hub(environment(), repository())),
    Case("trackers", "wandb without a key", True, lambda: _reporting("wandb", environment(), wandb="0.22.0")),
    Case("trackers", "a tracker that is not installed", True, lambda: _reporting("mlflow", environment())),
    Case(
        "trackers",
        "wandb with a key",
        False,
        lambda: _reporting("wandb", environment(wandb="key"), wandb="0.22.0"),
    ),
)
