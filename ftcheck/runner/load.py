"""From a policy file to its plan: the policy, the host that its plugins make, and the planned checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.errors import FtcheckError, PluginError, PolicyError, UsageError
from ftcheck.extension.plugin_host import Host, make_host
from ftcheck.records import Check, Stage
from ftcheck.runner.crash_log import internal_error
from ftcheck.settings import Policy

if TYPE_CHECKING:
    from ftcheck.policy import Draft
    from ftcheck.policy.made import Made


@dataclass(frozen=True, slots=True)
class Opened:
    """A policy that was read, with the plugins it names; what is wrong with either is not said yet.

    `host` has the built-in plugins alone where one that the policy names does not load: `broken` says why, or
    which bug of ours kept the policy from being read (`draft` is None then).
    """

    draft: "Draft | None"
    host: Host
    broken: FtcheckError | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy with the host that its plugins make, and its whole plan.

    `during` are the checks that the trainer runs while it trains; no report has results of them.
    """

    policy: Policy
    checks: tuple[Check, ...]
    host: Host
    during: tuple[Check, ...] = ()


def open_policy(
    policy: "str | Path | Made", overrides: Sequence[str] = (), rules_dirs: Sequence[Path] = ()
) -> Opened:
    """Read a policy and load its plugins. Raises nothing for what is in them: `bound` does."""
    from ftcheck.policy import draft

    try:
        read = draft(policy, overrides)
    except Exception as error:
        return Opened(None, make_host(), internal_error(error, "reading the policy"))
    try:
        return Opened(read, make_host(read.plugins, rules_dirs))
    except PluginError as error:
        return Opened(read, make_host(), error)


def bound(opened: Opened, stage: Stage | None = None) -> Loaded:
    """The policy with its plan. Raises `PolicyError` (all problems) or `PluginError`.

    A policy that cannot be read takes precedence over a plugin that does not load. Raises `UsageError` for
    the stage `during`: its checks run inside a training.
    """
    from ftcheck.policy import bind
    from ftcheck.policy.plan import plan

    read = opened.draft
    if opened.broken is not None or read is None:
        if read is not None and read.problems:
            raise PolicyError("the policy is not valid", read.problems)
        raise opened.broken or PolicyError("the policy could not be read")
    policy, checks = bind(read, opened.host, stage)
    if (stage or policy.stage) is Stage.DURING:
        remedy = "ftcheck train runs them and records their results in run.json"
        raise UsageError(
            f"{policy.path}: checks of stage during run while a model is being trained; {remedy}"
        )
    during = plan(policy, opened.host, Stage.DURING) if policy.stage is Stage.BEFORE else ()
    return Loaded(policy, checks, opened.host, during)


def load(
    policy: "str | Path | Made",
    overrides: Sequence[str] = (),
    rules_dirs: Sequence[Path] = (),
    stage: Stage | None = None,
) -> Loaded:
    """Read and bind a policy: `open_policy`, then `bound`. Raises what `bound` raises."""
    return bound(open_policy(policy, overrides, rules_dirs), stage)
