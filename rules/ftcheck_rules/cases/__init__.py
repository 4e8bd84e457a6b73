"""Small inputs on which each rule must fail or must pass: `ftcheck selftest` plants them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

FAMILIES = (
    "adapters",
    "vocabulary",
    "arguments",
    "schedule",
    "data",
    "marks",
    "overlap",
    "gold",
    "hosted",
    "tokens",
    "parity",
    "templates",
    "special",
    "labels",
    "masks",
    "lengths",
    "packing",
    "machine",
    "serving",
    "saving",
    "evaluation",
    "precision",
    "distributed",
    "hub",
    "memory",
    "memory_fit",
    "budget",
    "resume",
    "outcome",
    "accuracy",
    "outputs",
    "loads",
    "during",
)


@dataclass(frozen=True)
class Case:
    """Inputs on which a rule fails, or passes. `inputs` makes them, by argument name, when called.

    `rule` is the rule's id; `fails` means that the check comes out `failed`, else `passed`.
    """

    rule: str
    name: str
    fails: bool
    inputs: Callable[[], Mapping[str, Any]]
    params: Mapping[str, Any] = field(default_factory=dict)


def cases_of(family: str) -> tuple[Case, ...]:
    """The cases of one family of rules."""
    found: tuple[Case, ...] = import_module(f"ftcheck_rules.cases.{family}").CASES
    return found


def all_cases() -> tuple[Case, ...]:
    """The cases of every built-in rule, imported now."""
    return tuple(case for family in FAMILIES for case in cases_of(family))


__all__ = ["FAMILIES", "Case", "all_cases", "cases_of"]
