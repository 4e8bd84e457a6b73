"""Parameters of rules: a mapping in the policy, a frozen dataclass in the rule."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, cast

from ftcheck.errors import PluginError, PolicyError
from ftcheck.extension.rules import Rule
from ftcheck.policy.extra_keys import fields, members
from ftcheck.policy.messages import expected
from ftcheck.policy.nodes import Node, planted, problem
from ftcheck.policy.validation import Validated, adapter, validated
from ftcheck.records import Location


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a rule, for help texts: its kind in words, its default, what it means."""

    name: str
    kind: str
    default: Any
    help: str


def make_params(rule: Rule, mapping: Mapping[str, Any]) -> Any:
    """The rule's parameters as its dataclass; None for a rule that takes none. Raises `PolicyError`."""
    outcome = checked(rule, planted(mapping, Location(yaml_path="params")))
    if outcome.problems:
        raise PolicyError(f"rule '{rule.id}'", outcome.problems)
    return outcome.value


def checked(rule: Rule, stated: Node) -> Validated:
    """The parameters that a policy states, or what is wrong with them and where."""
    if rule.params_type is not None:
        defaults = stated.value == {} and _plain_defaults(rule) is not None
        return Validated(rule.params_type(), ()) if defaults else _validated(rule, stated)
    if not stated.items:
        return Validated(None, ())
    message = f"the rule '{rule.id}' takes no parameters"
    return Validated(None, (problem(message, stated.key or stated.at),))


def _plain_defaults(rule: Rule) -> dict[str, Any] | None:
    """The defaults, where all are of types that JSON has too: the time for a validator is saved then."""
    if rule.params_type is None or not all(map(_is_plain, fields(rule.params_type).values())):
        return None
    defaults = {one.name: one.default for one in dataclasses.fields(rule.params_type)}
    return defaults if dataclasses.MISSING not in defaults.values() else None


def _is_plain(kind: Any) -> bool:
    return all(one in (bool, int, float, str) for one in members(kind))


def _validated(rule: Rule, stated: Node) -> Validated:
    from pydantic.errors import PydanticUserError

    try:
        return validated(rule.params_type, stated)
    except (PydanticUserError, NameError) as error:
        reason = str(error).partition("\n")[0]
        raise PluginError(f"rule '{rule.id}': its parameters cannot be validated: {reason}") from error


def full_params(rule: Rule, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with their defaults, as plain data. Raises `PolicyError`."""
    if not mapping and (defaults := _plain_defaults(rule)) is not None:
        return defaults
    made = make_params(rule, mapping)
    if made is None:
        return {}
    plain: dict[str, Any] = adapter(type(made)).dump_python(made, mode="json")
    return plain


def describe_params(rule: Rule) -> tuple[Parameter, ...]:
    """What a rule's parameters are called, take, default to, and mean."""
    if rule.params_type is None:
        return ()
    defaults, helps = full_params(rule, {}), field_docs(rule.params_type)
    return tuple(
        Parameter(name, expected(kind), defaults[name], helps.get(name, ""))
        for name, kind in fields(rule.params_type).items()
    )


def field_docs(owner: type[Any]) -> dict[str, str]:
    """The docstrings under a dataclass's fields, inherited ones too; none where the source is not at hand."""
    found: dict[str, str] = {}
    for one in reversed(owner.__mro__):
        found |= _own_docs(cast(Hashable, one))
    return found


@cache
def _own_docs(owner: type[Any]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(doc.value.value)
        for field, doc in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }
