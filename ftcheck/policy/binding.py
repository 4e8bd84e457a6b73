"""Binds a policy to the rules, jobs and trainers there are; reports every name that is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck.errors import PolicyError, Problem
from ftcheck.extension.plugin_host import Host
from ftcheck.extension.rules import Rule
from ftcheck.policy import params
from ftcheck.policy.messages import close, did_you_mean
from ftcheck.policy.nodes import (
    Node,
    ordered,
    planted,
    problem,
)
from ftcheck.policy.plan import looks_at_job, matching, plan
from ftcheck.policy.reading import Draft, without_removed
from ftcheck.records import Check, Stage
from ftcheck.settings import Policy

PLUGINS_HINT = "if a plugin provides the rule, list the plugin under 'plugins'"


@dataclass(frozen=True, slots=True)
class _Use:
    """One entry of `checks`, as far as it can be read: its rule (if there is one) and its jobs."""

    name: str
    node: Node
    rule_name: str
    rule: Rule | None
    jobs: Sequence[str]
    about_job: bool


def bind(draft: Draft, host: Host, stage: Stage | None = None) -> tuple[Policy, tuple[Check, ...]]:
    """The policy and the checks of a stage (the policy's own, unless another is asked for).

    Raises `PolicyError` with everything that is wrong: with the draft, and with the names in it.
    """
    problems = [*draft.problems, *(_problems(draft, host) if draft.tree else ())]
    if problems or draft.policy is None:
        raise PolicyError(f"{draft.path}: the policy is not valid", ordered(problems))
    return draft.policy, plan(draft.policy, host, stage or draft.policy.stage)


def _problems(draft: Draft, host: Host) -> Iterator[Problem]:
    assert draft.tree is not None
    tree = without_removed(draft.tree)
    jobs = _below(tree, "jobs")
    uses = [_use(name, node, host, list(jobs)) for name, node in _below(tree, "checks").items()]
    for use in uses:
        yield from _of_use(use, host, list(jobs), complete=draft.complete)
    for job in jobs.values():
        yield from _of_trainer(job, host)
    if draft.complete:
        yield from _of_removed(draft, host)
        yield from _of_require(tree, uses)


def _below(tree: Node, section: str) -> dict[str, Node]:
    return dict(tree.items[section].items) if section in tree.items else {}


def _use(name: str, node: Node, host: Host, jobs: Sequence[str]) -> _Use:
    named = node.items.get("rule")
    rule_name = named.value if named and isinstance(named.value, str) else name
    rule = host.rules.get(rule_name)
    stated = _texts(node.items.get("jobs"))
    about = rule is None or looks_at_job(rule, host)
    return _Use(name, node, rule_name, rule, jobs if stated is None else stated, about)


def _texts(node: Node | None) -> list[str] | None:
    if node is None or not isinstance(node.value, tuple):
        return None
    return [item.value for item in node.value if isinstance(item.value, str)]


def _of_use(use: _Use, host: Host, jobs: Sequence[str], *, complete: bool) -> Iterator[Problem]:
    if use.rule is None:
        named = use.node.items.get("rule")
        at = named.at if named else use.node.key or use.node.at
        meant = did_you_mean(use.rule_name, host.rules)
        yield problem(f"unknown rule '{use.rule_name}'{meant} ({PLUGINS_HINT})", at)
    else:
        yield from _of_params(use, use.rule)
    stated = use.node.items.get("jobs")
    if stated is None or not isinstance(stated.value, tuple):
        return
    if not use.about_job:
        message = f"the rule '{use.rule_name}' does not apply to jobs: remove 'jobs'"
        yield problem(message, stated.key or stated.at)
    elif complete:
        yield from _of_jobs(stated, jobs)


def _of_params(use: _Use, rule: Rule) -> Iterator[Problem]:
    stated = use.node.items.get("params")
    if stated is None:
        at = use.node.key or use.node.at
        stated = planted({}, at)
    elif not isinstance(stated.value, dict):
        return
    yield from params.checked(rule, stated).problems


def _of_jobs(stated: Node, jobs: Sequence[str]) -> Iterator[Problem]:
    entries = stated.value if isinstance(stated.value, tuple) else ()
    if not entries:
        yield problem("'jobs' is empty: name at least one job, or remove 'jobs'", stated.at)
    for entry in entries:
        if isinstance(entry.value, str) and entry.value not in jobs:
            yield problem(f"unknown job '{entry.value}'{did_you_mean(entry.value, jobs)}", entry.at)


def _of_trainer(job: Node, host: Host) -> Iterator[Problem]:
    trainer = job.items.get("trainer")
    use = trainer.items.get("use") if trainer else None
    if use is None or not isinstance(use.value, str) or not use.value.strip() or use.value in host.trainers:
        return
    listed = ", ".join(host.trainers) or "none"
    meant = did_you_mean(use.value, host.trainers)
    yield problem(f"unknown trainer '{use.value}'{meant} (available: {listed})", use.at)


def _of_removed(draft: Draft, host: Host) -> Iterator[Problem]:
    """A check that is removed must be one that a policy could have added."""
    known = set(host.rules)
    for layer in draft.layers:
        known |= {name for name, node in _below(layer.tree, "checks").items() if node.value is not False}
    assert draft.tree is not None
    for name in draft.removed:
        if name not in known:
            node = draft.tree.items["checks"].items[name]
            message = f"there is no check '{name}' to remove{did_you_mean(name, known)}"
            yield problem(message, node.key or node.at)


def _of_require(tree: Node, uses: Sequence[_Use]) -> Iterator[Problem]:
    ids = [one for use in uses for one in _ids(use)]
    held = [one for use in uses if not _watches(use) for one in _ids(use)]
    require = tree.items["gate"].items.get("require") if "gate" in tree.items else None
    for entry in require.value if require and isinstance(require.value, tuple) else ():
        if isinstance(entry.value, str) and not matching(entry.value, ids):
            message = f"'{entry.value}' matches no check of this policy{_meant(entry.value, uses, ids)}"
            yield problem(message, entry.at)
        elif isinstance(entry.value, str) and not matching(entry.value, held):
            message = (
                f"'{entry.value}' is a check of stage during: no report contains it; its 'action' decides"
            )
            yield problem(message, entry.at)


def _watches(use: _Use) -> bool:
    return use.rule is not None and use.rule.stage is Stage.DURING


def _ids(use: _Use) -> list[str]:
    own = [f"{job}::{use.name}" for job in use.jobs] if use.about_job else [use.name]
    return [*own, use.name] if use.rule is None else own


def _meant(pattern: str, uses: Sequence[_Use], ids: Sequence[str]) -> str:
    """The pattern with the check's name set right, or with the job that is missing or too much."""
    before, _, name = pattern.rpartition("::")
    near = close(name, [use.name for use in uses])
    tries = [f"{before}::{near}", f"*::{near}", str(near)] if near else []
    meant = next((one for one in tries if matching(one, ids)), None)
    return f"; did you mean '{meant}'?" if meant else ""
