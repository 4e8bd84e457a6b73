"""What rules yield: taken over from another job where nothing that the rule looks at is different there.

Rules always run, once for all jobs of a command that they cannot tell apart. What they yield is entered for
each of these jobs on its own, with the job's own places in the policy.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ftcheck.extension.rules import Rule
from ftcheck.inputs.container import Inputs, Watched
from ftcheck.inputs.observed import place_key, plain
from ftcheck.inputs.traces import Trace
from ftcheck.records import Check, Exclude, Finding, Measurement
from ftcheck.settings import Job

Item = Any
"""What a rule yields, and what it must not."""
MOST = 1_000
"""What yields more than this is not held for other jobs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule yielded: each item with the setting at which it is, where it names one of its job's."""

    items: tuple[tuple[Any, str | None], ...]
    read_content: bool


class Answers:
    """The answers of rules for the jobs of a command; `read_content` tells of the one that was asked last."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.read_content = False

    def of(self, rule: Rule, check: Check, inputs: Inputs, params: Mapping[str, Any]) -> Iterator[Any]:
        """What a rule yields for a job, or has yielded for one that it cannot tell from it.

        Its inputs are opened now. Raises what opening them raises, and what the rule raises.
        """
        self.read_content = False
        traces = inputs.traces
        if traces is None or check.job is None:
            return yields(rule, {**{name: inputs.get(name) for name in rule.inputs}, **params})
        key = (rule.func, json.dumps(check.params, sort_keys=True, default=str))
        found = traces.find(key, inputs)
        if found is not None:
            return self._again(found.answer, inputs.get("job"))
        trace = Trace()
        watched = Watched(inputs, trace)
        arguments = {**{name: watched.argument(name) for name in rule.inputs}, **params}
        keep = partial(traces.keep, key, trace)
        return self._asked(yields(rule, arguments), inputs.get("job"), keep)

    def _again(self, answer: Answer, job: Job) -> Iterator[Any]:
        self.read_content = answer.read_content
        for item, key in answer.items:
            yield item if key is None else replace(item, at=job.at(key))

    def _asked(self, yielded: Iterator[Any], job: Job, keep: Callable[[Answer], object]) -> Iterator[Any]:
        """What the rule yields now, kept for other jobs once it has yielded all."""
        items: list[tuple[Any, str | None]] = []
        for one in yielded:
            item, key = _settled(one)
            if len(items) <= MOST and not isinstance(item, Exclude):
                items.append((item, key))
            yield item if key is None else replace(item, at=job.at(key))
        if len(items) <= MOST:
            keep(Answer(tuple(items), self.read_content))


def yields(rule: Rule, arguments: Mapping[str, Any]) -> Iterator[Any]:
    """What a rule yields. Raises `TypeError` for one that is no generator."""
    produced = rule.func(**arguments)
    if not hasattr(produced, "__iter__"):
        raise TypeError(f"rule '{rule.id}' must be a generator: it returned {type(produced).__name__}")
    yield from produced


def _settled(item: Item) -> tuple[Any, str | None]:
    """An item without observed records in it, and the setting of its job at which it is."""
    if isinstance(item, Measurement):
        return replace(item, value=plain(item.value)), None
    if not isinstance(item, Finding):
        return item, None
    key = place_key(item.at)
    change = item.change
    if change is not None:
        change = replace(change, old=plain(change.old), new=plain(change.new))
    return replace(item, at=None if key is not None else plain(item.at), change=change), key
