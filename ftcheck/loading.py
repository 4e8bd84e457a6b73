"""From a policy file to its plan: the policy, the host that its plugins make, and the planned checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.errors import PluginError, PolicyError
from ftcheck.host import Host, make_host
from ftcheck.records import Check, Stage
from ftcheck.selection import Selection
from ftcheck.settings import Policy

if TYPE_CHECKING:
    from ftcheck.policy import Draft


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy with the host that its plugins make, and its whole plan."""

    policy: Policy
    checks: tuple[Check, ...]
    host: Host


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
    """Read and bind a policy. Raises `PolicyError` (all problems) or `PluginError`."""
    from ftcheck.policy import bind, draft

    read = draft(policy, overrides)
    host = _host(read, rules_dirs)
    bound, checks = bind(read, host, stage)
    return Loaded(bound, checks, host)


def _host(read: "Draft", rules_dirs: Sequence[Path]) -> Host:
    """The host; a policy that cannot be read takes precedence over a plugin that does not load."""
    try:
        return make_host(read.plugins, rules_dirs)
    except PluginError:
        if read.problems:
            raise PolicyError("the policy cannot be used", read.problems) from None
        raise
