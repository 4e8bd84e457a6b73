"""Ranges and forms of values: what a type does not say. The JSON Schema is made from the same table."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from ftcheck.durations import is_time, seconds
from ftcheck.errors import Problem
from ftcheck.policy.extra_keys import Stated, visit
from ftcheck.policy.messages import mismatch, shown
from ftcheck.policy.nodes import Node, plain, problem
from ftcheck.settings import (
    CheckSettings,
    GateSettings,
    Gold,
    Hardware,
    Lora,
    Model,
    Outliers,
    PolicySettings,
    Serving,
    Targets,
    TrainerChoice,
    Training,
    Waiver,
)

NAME = r"^[A-Za-z0-9_.-]+$"


@dataclass(frozen=True, slots=True)
class Limit:
    """A range of numbers."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """The range in words."""
        said = [
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        ]
        return " and ".join(f"{word} {number:g}" for word, number in said if number is not None)

    def schema(self) -> dict[str, float]:
        """The range in JSON Schema."""
        keys = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        numbers = (self.at_least, self.above, self.at_most, self.below)
        return {key: number for key, number in zip(keys, numbers, strict=True) if number is not None}


ONE_UP = Limit(at_least=1)
ZERO_UP = Limit(at_least=0)
POSITIVE = Limit(above=0)

LIMITS: Mapping[type[Any], Mapping[str, Limit]] = {
    Outliers: {"above_percentile": Limit(above=0, at_most=100)},
    Training: {
        "max_length": ONE_UP,
        "per_device_train_batch_size": ONE_UP,
        "per_device_eval_batch_size": ONE_UP,
        "gradient_accumulation_steps": ONE_UP,
        "learning_rate": POSITIVE,
        "num_train_epochs": POSITIVE,
        "max_steps": Limit(at_least=-1),
        "seed": ZERO_UP,
        "warmup_steps": ZERO_UP,
        "weight_decay": ZERO_UP,
        "max_grad_norm": ZERO_UP,
        "logging_steps": POSITIVE,
        "save_steps": POSITIVE,
        "save_total_limit": ONE_UP,
        "eval_steps": POSITIVE,
    },
    Lora: {"r": ONE_UP, "lora_alpha": ONE_UP, "lora_dropout": Limit(at_least=0, below=1)},
    Serving: {
        "max_new_tokens": ONE_UP,
        "tokens_per_second": POSITIVE,
        "max_input_tokens": ONE_UP,
        "schema_retries": ZERO_UP,
        "max_model_len": ONE_UP,
    },
    Targets: {
        "max_length": ONE_UP,
        "tokens_per_step": ONE_UP,
        "max_new_tokens": ONE_UP,
        "tokens_per_second": POSITIVE,
        "p95_latency_ms": POSITIVE,
        "requests_per_second": POSITIVE,
        "memory_gib": POSITIVE,
        "accuracy": Limit(at_least=0, at_most=1),
        "budget": ZERO_UP,
    },
    Hardware: {"count": ONE_UP, "memory_gib": POSITIVE, "price_per_hour": ZERO_UP},
    CheckSettings: {"timeout": POSITIVE},
}

NOT_EMPTY: Mapping[type[Any], frozenset[str]] = {
    Model: frozenset({"name"}),
    Gold: frozenset({"path", "input", "expected"}),
    TrainerChoice: frozenset({"use"}),
    Waiver: frozenset({"check", "reason", "owner"}),
}


def problems_of(tree: Node, *, today: date | None = None) -> Iterator[Problem]:
    """Every value that lies outside its range or has not its form."""
    now = today or datetime.now(UTC).date()
    for stated in visit(PolicySettings, tree):
        message = _version(stated) or _out_of_range(stated) or _empty(stated) or _malformed(stated, now)
        if message:
            yield problem(message, stated.node.at)
    yield from _names(tree, "jobs")
    yield from _names(tree, "checks")


def _version(stated: Stated) -> str | None:
    """For pydantic `true` and `1.0` are the literal 1."""
    value = stated.node.value
    odd = isinstance(value, bool | float) and value == 1
    return (
        mismatch(stated.kind, value)
        if (stated.owner, stated.name, odd) == (PolicySettings, "ftcheck", True)
        else None
    )


def _out_of_range(stated: Stated) -> str | None:
    limit = LIMITS.get(stated.owner, {}).get(stated.name)
    value = plain(stated.node)
    if limit is None:
        return None
    if isinstance(value, list):
        return _pair(limit, value)
    return f"must be {limit}, not {value}" if _is_number(value) and not limit.holds(value) else None


def _pair(limit: Limit, value: list[Any]) -> str | None:
    if len(value) != 2 or not all(_is_number(number) for number in value):
        return None
    outside = next((number for number in value if not limit.holds(number)), None)
    if outside is not None:
        return f"must be {limit}, not {outside}"
    low, high = value
    return f"the lower bound ({low}) is above the upper bound ({high})" if low > high else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _empty(stated: Stated) -> str | None:
    value = stated.node.value
    required = stated.name in NOT_EMPTY.get(stated.owner, ())
    return "must not be empty" if required and isinstance(value, str) and not value.strip() else None


def _max_age(text: str, _: date) -> str | None:
    return None if seconds(text) else f"must be a duration such as 90m, 24h or 7d, not {shown(text)}"


def _deadline(text: str, _: date) -> str | None:
    good = seconds(text) or is_time(text)
    form = "a duration such as 8h, or a time such as 07:00 or 2026-11-23T07:00"
    return None if good else f"must be {form}, not {shown(text)}"


def _expires(text: str, today: date) -> str | None:
    try:
        last = date.fromisoformat(text)
    except ValueError:
        return None
    if today <= last:
        return None
    return f"the waiver expired with {last} (UTC): fix the finding, or renew the waiver"


FORMS: Mapping[tuple[type[Any], str], Callable[[str, date], str | None]] = {
    (GateSettings, "max_age"): _max_age,
    (Targets, "deadline"): _deadline,
    (Waiver, "expires"): _expires,
}


def _malformed(stated: Stated, today: date) -> str | None:
    form = FORMS.get((stated.owner, stated.name))
    return form(stated.node.value, today) if form and isinstance(stated.node.value, str) else None


def _names(tree: Node, section: str) -> Iterator[Problem]:
    for name, child in tree.items[section].items.items() if section in tree.items else ():
        if not re.fullmatch(NAME, name):
            quoted = shown(name).removeprefix("the text ")
            what = f"the name {quoted} may contain only letters, digits and . _ -"
            yield problem(what, child.key or child.at)
