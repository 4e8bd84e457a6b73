"""Which changes `ftcheck fix` makes: those that failed checks propose, one a key, and the policy with them.

Nothing here runs a check or writes a file: `search` asks its caller for results under changes that are
tried in memory, and `written` makes the new text of the policy.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftcheck.fix import yaml_edits
from ftcheck.plurals import agreeing
from ftcheck.records import Change, Location, Outcome, Result, Severity
from ftcheck.report.redact import MARK, redact, visible
from ftcheck.report.wording import mends

ROUNDS = 5
"""So often the checks run again under the changes before what is left is left."""
LONGEST = 48
"""A longer text is told by its length."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change, the check that asks for it, and how bad its finding is."""

    change: Change
    check: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Choice:
    """The change that is taken for one key, the checks that asked for it, and what others asked for."""

    change: Change
    checks: tuple[str, ...]
    others: tuple[Proposal, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """A key that is not changed though a check asks for it, and why."""

    path: str
    checks: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    `taken` are the changes to write, by key; `held` those that would alter what the model learns, where
    that was not asked for; `left` keys that cannot be changed; `results` those of the checks under the
    changes in `taken`; `settled` whether nothing more was proposed at the end.
    """

    taken: tuple[Choice, ...]
    held: tuple[Choice, ...]
    left: tuple[Left, ...]
    results: tuple[Result, ...]
    settled: bool


Check = Callable[[Sequence[Change]], Iterable[Result]]
"""Results of the checks with these changes; only of the checks that ran, which may be fewer each time."""
Objection = Callable[[Sequence[Change]], str | None]
"""Why the policy cannot have these changes, the last of them the new one; None if it can."""


def proposals(results: Iterable[Result]) -> tuple[Proposal, ...]:
    """The changes that mend failed checks. Remarks (`info`) and waived checks ask for none."""
    return tuple(
        Proposal(finding.change, result.check.id, finding.severity)
        for result in results
        if result.outcome is Outcome.FAILED
        for finding in result.findings
        if finding.change is not None and mends(finding)
    )


def resolved(found: Iterable[Proposal]) -> tuple[Choice, ...]:
    """One change for each key.

    Numbers that all lie above the stated one are lower bounds, and the largest meets them all; numbers
    that all lie below it are upper bounds, and the smallest does. Else the worst finding decides, the
    first of equal ones.
    """
    by_path: dict[str, list[Proposal]] = {}
    for one in found:
        by_path.setdefault(one.change.path, []).append(one)
    return tuple(_chosen(many) for many in by_path.values())


def _chosen(many: Sequence[Proposal]) -> Choice:
    best = _meets_all(many) or max(many, key=lambda one: one.severity.rank)
    same = [one for one in many if _same(one.change.new, best.change.new)]
    change = replace(best.change, safe=all(one.change.safe for one in same))
    checks = tuple(dict.fromkeys(one.check for one in same))
    others = {(one.check, _key(one.change.new)): one for one in many if one not in same}
    return Choice(change, checks, tuple(others.values()))


def _meets_all(many: Sequence[Proposal]) -> Proposal | None:
    old, new = many[0].change.old, [one.change.new for one in many]
    if not all(_is_number(value) for value in (old, *new)):
        return None
    if all(value > old for value in new):
        return max(many, key=lambda one: (one.change.new, one.severity.rank))
    if all(value < old for value in new):
        return min(many, key=lambda one: (one.change.new, -one.severity.rank))
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _same(one: Any, other: Any) -> bool:
    return _key(one) == _key(other)


def search(
    first: Iterable[Result],
    check: Check | None,
    objection: Objection,
    *,
    unsafe: bool = False,
    rounds: int = ROUNDS,
) -> Found:
    """Change what the results ask for, check again under the changes, and so on until nothing is asked for.

    Without `check` (a stored report) the first results are all there is. A key that checks pull to and
    fro is left as it was: no value of it pleases them all. So is one whose new value the check that asked for
    it rejects in the end, where other changes have moved what it must fit.
    """
    state = _Search(objection, unsafe=unsafe, results={one.check.id: one for one in first})
    settled = False
    for _ in range(rounds):
        if not state.step():
            settled = True
            break
        if check is None:
            break
        state.results |= {one.check.id: one for one in check(state.changes)}
    while check is not None and state.withdraw():
        state.results |= {one.check.id: one for one in check(state.changes)}
    return Found(
        taken=tuple(state.taken.values()),
        held=tuple(state.held.values()),
        left=tuple(state.left.values()),
        results=tuple(state.results.values()),
        settled=settled,
    )


@dataclass
class _Search:
    """The state of a search, by key: what is taken, held and left, and every value a key has had."""

    objection: Objection
    unsafe: bool
    results: dict[str, Result]
    taken: dict[str, Choice] = field(default_factory=dict)
    held: dict[str, Choice] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)
    had: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(one.change for one in self.taken.values())

    def step(self) -> bool:
        """Take up what the results ask for; whether anything is other than before."""
        before = self.changes
        self.held = {}
        for choice in resolved(proposals(self.results.values())):
            path = choice.change.path
            if path in self.left:
                continue
            if not choice.change.safe and not self.unsafe:
                self.held[path] = choice
            else:
                self._take(path, choice)
        return self.changes != before

    def withdraw(self) -> bool:
        """Take back changes that their own checks reject at the same key; whether there were any."""
        rejected = {path: why for path, one in self.taken.items() if (why := self._rejected(path, one))}
        for path, why in rejected.items():
            choice = self.taken[path]
            self._leave(path, choice, f"with {shown(choice.change.new)}, {why}")
        return bool(rejected)

    def _rejected(self, path: str, choice: Choice) -> str | None:
        """What a check that asked for a change still says of that key, more than a remark."""
        for check in choice.checks:
            result = self.results.get(check)
            for finding in result.findings if result is not None and result.outcome is Outcome.FAILED else ():
                at_key = finding.at is not None and finding.at.yaml_path == path
                if at_key and finding.severity is not Severity.INFO:
                    return f"{check} still fails: {finding.message}"
        return None

    def _take(self, path: str, choice: Choice) -> None:
        had = self.had.setdefault(path, [choice.change.old])
        if any(_same(choice.change.new, one) for one in had):
            self._leave(path, choice, self._pulled(path, choice))
            return
        change = replace(choice.change, old=had[0])
        others = [one.change for one in self.taken.values() if one.change.path != path]
        reason = self.objection([*others, change])
        if reason is not None:
            self._leave(path, choice, reason)
            return
        had.append(change.new)
        was = self.taken.get(path)
        checks = (*was.checks, *choice.checks) if was is not None else choice.checks
        self.taken[path] = replace(choice, change=change, checks=tuple(dict.fromkeys(checks)))

    def _leave(self, path: str, choice: Choice, reason: str) -> None:
        self.left[path] = Left(path, choice.checks, reason)
        self.taken.pop(path, None)

    def _pulled(self, path: str, choice: Choice) -> str:
        verb = agreeing(len(choice.checks), "proposes", "propose")
        asked = f"{', '.join(choice.checks)} {verb} {shown(choice.change.new)}"
        was = self.taken.get(path)
        if was is None:
            return f"{asked}, which is already set"
        return f"the checks disagree: {asked}, {', '.join(was.checks)} {shown(was.change.new)}"


def shown(value: Any) -> str:
    """A value in a message: as YAML, a long text by its length."""
    if isinstance(value, str):
        long = len(value) > LONGEST or "\n" in value
        return f"a text of {len(value):,} characters" if long else visible(redact(value))
    text = visible(redact(json.dumps(value, ensure_ascii=False, default=str)))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


# --- the policy's text ----------------------------------------------------------------------------------


def keys_of(path: str, jobs: Iterable[str]) -> yaml_edits.Keys | None:
    """`jobs.mapper.training.lora.r` as keys; names of jobs may hold dots. None for what is no job's."""
    rest = path.removeprefix("jobs.")
    fitting = [job for job in jobs if rest.startswith(f"{job}.")]
    if rest == path or not fitting:
        return None
    job = max(fitting, key=len)
    return ("jobs", job, *rest[len(job) + 1 :].split("."))


def override(change: Change) -> str:
    """The change as `--set` takes it."""
    return f"{change.path}={json.dumps(change.new)}"


def given(path: str, overrides: Iterable[str]) -> str | None:
    """The `--set` that states this key, or a part of it, or what it is part of."""
    for one in overrides:
        stated = one.partition("=")[0]
        if stated == path or stated.startswith(f"{path}.") or path.startswith(f"{stated}."):
            return stated
    return None


def unwritable(text: str, changes: Sequence[Change], jobs: Iterable[str], set_: Sequence[str]) -> str | None:
    """Why the last of these changes cannot be written into the text, None if it can."""
    change = changes[-1]
    stated = given(change.path, set_)
    if stated is not None:
        return f"{stated} is set on the command line (--set), which overrides the policy"
    keys = keys_of(change.path, jobs)
    if keys is None:
        return "only settings of a job can be written"
    if MARK in _key(change.new):
        return "the value is redacted in the report: run ftcheck fix without --report"
    try:
        yaml_edits.with_value(text, keys, change.new)
    except yaml_edits.Refused as refused:
        return str(refused)
    return None


def written(policy: str, text: str, changes: Iterable[Change], jobs: Iterable[str]) -> str:
    """The policy's text with the changes. Raises `edits.Refused` for one that cannot be written.

    A value is stated under its job, also where it came from `defaults` or from a file that is extended.
    Where a change takes a value away (`new` is None), the key goes; where the value would then come
    from elsewhere, or from a default, the key says null.
    """
    jobs = tuple(jobs)
    for change in changes:
        keys = keys_of(change.path, jobs)
        assert keys is not None
        if change.new is None:
            text = _without(policy, text, keys)
        else:
            text = yaml_edits.with_value(text, keys, change.new)
    return text


def _without(policy: str, text: str, keys: yaml_edits.Keys) -> str:
    out = yaml_edits.without(text, keys)
    job = _job(policy, out, keys[1])
    return (
        out if job is not None and _value(job, keys[2:]) is None else yaml_edits.with_value(text, keys, None)
    )


def _job(policy: str, text: str, name: str) -> Any:
    """A job's settings with this text in the place of the policy's own; None if it has no valid one."""
    from ftcheck.policy import extra_keys, imports, layers, reading
    from ftcheck.policy.document import parse
    from ftcheck.policy.validation import validated
    from ftcheck.settings import PolicySettings

    stack = layers.load(Path(policy)).layers
    tree, problems = parse(text, at=Location(path=stack[-1].shown, line=1, column=1), lines=True)
    if tree is None or problems:
        return None
    top = replace(stack[-1], tree=extra_keys.settled(PolicySettings, tree))
    merged = layers.merged((*stack[:-1], top))
    tree, _, _ = imports.laid_under(reading.with_defaults(merged), merged, stack)
    settings = validated(PolicySettings, reading.without_removed(tree)).value
    return settings.jobs.get(name) if settings is not None else None


def _value(value: Any, keys: Sequence[str]) -> Any:
    """The value under keys of settings, None where there is none."""
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif value is not None:
            extra = getattr(value, "extra", {})
            value = extra[key] if key in extra else getattr(value, key, None)
    return value
