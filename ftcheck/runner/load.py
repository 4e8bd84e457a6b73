"""From a policy file to its plan: the policy, the host that its plugins make, and the planned checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.errors import PluginError, PolicyError, UsageError
from ftcheck.extension.plugin_host import Host, make_host
from ftcheck.records import Check, Stage
from ftcheck.runner.select import Selection
from ftcheck.settings import Policy

if TYPE_CHECKING:
    from ftcheck.policy import Draft


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy with the host that its plugins make, and its whole plan.

    `during` are the checks that the trainer runs while it trains; no report has results of them.
    """

    policy: Policy
    checks: tuple[Check, ...]
    host: Host
    during: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A policy with what this run takes of its plan."""

    loaded: Loaded
    taken: tuple[Check, ...]
    selection: Selection

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs this run looks at."""
        return self.selection.jobs or tuple(self.loaded.policy.jobs)


def load(
    policy: str | Path,
    overrides: Sequence[str] = (),
    rules_dirs: Sequence[Path] = (),
    stage: Stage | None = None,
) -> Loaded:
    """Read and bind a policy. Raises `PolicyError` (all problems) or `PluginError`.

    Raises `UsageError` for the stage `during`: its checks run inside a training.
    """
    from ftcheck.policy import bind, draft
    from ftcheck.policy.plan import plan

    read = draft(policy, overrides)
    host = _host(read, rules_dirs)
    bound, checks = bind(read, host, stage)
    if (stage or bound.stage) is Stage.DURING:
        remedy = "ftcheck train runs them and records their results in run.json"
        raise UsageError(f"{policy}: checks of stage during run while a model is being trained; {remedy}")
    during = plan(bound, host, Stage.DURING) if bound.stage is Stage.BEFORE else ()
    return Loaded(bound, checks, host, during)


def _host(read: "Draft", rules_dirs: Sequence[Path]) -> Host:
    """The host; a policy that cannot be read takes precedence over a plugin that does not load."""
    try:
        return make_host(read.plugins, rules_dirs)
    except PluginError:
        if read.problems:
            raise PolicyError("the policy is not valid", read.problems) from None
        raise
