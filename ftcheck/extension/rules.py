"""What plugins offer: named rules, loaders, reporters and trainers."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ftcheck.errors import PluginError
from ftcheck.records import Exclude, Finding, Measurement, Skip, Stage, Summary

if TYPE_CHECKING:
    from ftcheck.settings import Job

Yield = Finding | Measurement | Skip | Summary | Exclude


@dataclass(frozen=True, slots=True)
class Only:
    """Which jobs a rule concerns: those that state one of these settings (`serving.engine`).

    For other jobs its check is not planned, unless the policy names the job under the check itself, or
    requires the check at the gate.
    """

    stated: tuple[str, ...]

    def concerns(self, job: "Job") -> bool:
        """Whether a job states one of the settings."""
        return any(key in job.places for key in self.stated)


@dataclass(frozen=True)
class Case:
    """Inputs on which a rule fails, or passes. `inputs` makes them, by argument name, when called.

    `rule` is the rule's id; `fails` means that the check comes out `failed`, else `passed`.
    `ftcheck selftest` plants them; `ftcheck.testing` makes inputs.
    """

    rule: str
    name: str
    fails: bool
    inputs: Callable[[], Mapping[str, Any]]
    params: Mapping[str, Any] = field(default_factory=dict)


Cases = str | Callable[[], Iterable[Case]]
"""A module that holds `CASES`, by its dotted name, or a function that returns them; opened when planted."""


@dataclass(frozen=True)
class Rule:
    """A named property. Calling it calls the function, so tests use it directly.

    `inputs` are the function's argument names except `params`; `params_type` is the dataclass of
    its parameters (or None). `summary` and `why` are the docstring's first line and second
    paragraph. `family` is the heading it is listed under. `cases` holds its must-fail and must-pass cases.
    `texts`: it is about what rows say, not about the ids that are fed.
    """

    id: str
    func: Callable[..., Iterator[Yield]]
    inputs: tuple[str, ...]
    params_type: type[Any] | None
    summary: str
    why: str
    stage: Stage = Stage.BEFORE
    detail: str = ""
    family: str = ""
    only: Only | None = None
    cases: Cases | None = None
    texts: bool = False

    def planted(self) -> tuple[Case, ...]:
        """The rule's own cases, opened now; none where it brings none. Raises `PluginError`."""
        if self.cases is None:
            return ()
        try:
            found = import_module(self.cases).CASES if isinstance(self.cases, str) else self.cases()
        except (ImportError, AttributeError) as error:
            raise PluginError(f"rule '{self.id}': its cases could not be loaded: {error}") from error
        return tuple(case for case in found if case.rule == self.id)

    def __call__(self, *args: Any, **kwargs: Any) -> Iterator[Yield]:
        """Run the rule on inputs of your own making."""
        return self.func(*args, **kwargs)


def rule(
    rule_id: str,
    *,
    family: str = "",
    cases: Cases | None = None,
    stage: Stage = Stage.BEFORE,
    only: Sequence[str] = (),
    texts: bool = False,
) -> Callable[[Callable[..., Iterator[Yield]]], Rule]:
    """Turn a generator function into a rule.

    Its argument names are the inputs it needs; an argument named `params` must be annotated with a
    frozen dataclass whose fields all have defaults. The docstring's first line says what holds when
    the rule passes, its second paragraph what goes wrong in training if it does not. `family` is the heading
    that it is listed under; by default the last part of its module's name. `cases` are its must-fail and
    must-pass cases, for `ftcheck selftest`. `only` names settings: the rule is planned only for jobs that
    state one of them. With `texts` the rule is about what rows say: of a job with data.prepared and
    data.train it is given the rows of data.train. A rule of stage `during` asks for `metrics` (a
    `ftcheck.inputs.metric_history.MetricHistory`) and is asked on each log; a parameter `action` (warn,
    checkpoint, stop) says what the trainer does about its findings.

    Raises `PluginError` for a function without docstring, second paragraph or annotation.
    """

    def decorate(func: Callable[..., Iterator[Yield]]) -> Rule:
        summary, why, detail = _docstring(rule_id, func)
        parameters = inspect.signature(func, eval_str=True).parameters
        params_type = _params_type(rule_id, parameters)
        return Rule(
            id=rule_id,
            func=func,
            inputs=tuple(name for name in parameters if name != "params"),
            params_type=params_type,
            summary=summary,
            why=why,
            detail=detail,
            stage=stage,
            family=family or func.__module__.rpartition(".")[2],
            cases=cases,
            texts=texts,
            only=Only(tuple(only)) if only else None,
        )

    return decorate


def _docstring(rule_id: str, func: Callable[..., Any]) -> tuple[str, str, str]:
    paragraphs = [p.replace("\n", " ") for p in (inspect.getdoc(func) or "").split("\n\n") if p.strip()]
    if len(paragraphs) < 2:
        needed = "one line on what is checked, and a paragraph on what goes wrong"
        message = f"rule '{rule_id}' needs a docstring: {needed}"
        raise PluginError(message)
    return paragraphs[0], paragraphs[1], "\n\n".join(paragraphs[2:])


def _params_type(rule_id: str, parameters: Any) -> type[Any] | None:
    if "params" not in parameters:
        return None
    annotation = parameters["params"].annotation
    if not inspect.isclass(annotation) or not hasattr(annotation, "__dataclass_fields__"):
        raise PluginError(f"rule '{rule_id}': annotate `params` with a frozen dataclass")
    return annotation
