"""The sandbox in which chat templates are compiled: transformers' own, or the same without transformers.

Importing transformers takes seconds. Where its source is one that was read (`tables/chat_environments.json`),
what it gives to templates is made here instead, for tokenizers that an earlier run opened; a test compares
the two on real templates.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from ftcheck import tables

Compile = Callable[..., Any]
"""Makes a jinja template of a text; with `fresh=True` one that nobody else has."""
SOURCE = Path("utils") / "chat_template_utils.py"


class Clock:
    """What `strftime_now` asks; tests of templates let it say another day."""

    now: Callable[[], datetime] = staticmethod(datetime.now)


def by_transformers(template: str, *, fresh: bool = False) -> Any:
    """A template as transformers compiles it. Raises what that raises."""
    from transformers.utils import chat_template_utils

    compiling: Any = chat_template_utils._compile_jinja_template
    if not fresh:
        return compiling(template)
    made = compiling.__wrapped__(template)
    if made is compiling(template):
        raise ValueError("no template of one's own")
    return made


def by_ftcheck(template: str, *, fresh: bool = False) -> Any:
    """The same without transformers, where `is_known`. Raises what jinja raises."""
    return _made(template) if fresh else _compiled(template)


@cache
def is_known() -> bool:
    """Whether the installed transformers is, letter by letter, one whose sandbox was read."""
    spec = importlib.util.find_spec("transformers")
    for location in (spec.submodule_search_locations or []) if spec else []:
        file = Path(location) / SOURCE
        if file.is_file():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            return f"sha256:{digest}" in tables.load("chat_environments")["transformers"]
    return False


@cache
def _compiled(template: str) -> Any:
    return _made(template)


def _made(template: str) -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generations(), loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda format: Clock.now().strftime(format),
        "dict": _Dict(),
        "namespace": _namespace(),
    }
    return environment.from_string(template)


@cache
def _generations() -> Any:
    """The extension that follows `{% generation %}` blocks while it is told to."""
    from jinja2 import nodes, pass_eval_context
    from jinja2.ext import Extension

    class Generations(Extension):
        tags = {"generation"}  # noqa: RUF012

        def __init__(self, environment: Any) -> None:
            super().__init__(environment)
            environment.extend(activate_tracker=self.tracking)
            self._blocks: list[str] | None = None
            self._spans: list[tuple[int, int]] = []

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_generation_support"), [], [], body).set_lineno(line)

        @pass_eval_context
        def _generation_support(self, context: Any, caller: Any) -> Any:
            made = caller()
            if self._blocks is not None:
                start = sum(map(len, self._blocks))
                self._spans.append((start, start + len(made)))
            return made

        @contextmanager
        def tracking(self, blocks: list[str], spans: list[tuple[int, int]]) -> Iterator[None]:
            try:
                if self._blocks is not None:
                    raise ValueError("this template is being followed already")
                self._blocks, self._spans = blocks, spans
                yield
            finally:
                self._blocks = None

    return Generations


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: Any) -> None:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)


class _Dict:
    """`dict` for templates, without its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> Any:
        return dict.fromkeys(*args, **kwargs)


@cache
def _namespace() -> Any:
    """jinja's namespace, which keeps nothing under a name that begins with an underscore."""
    from jinja2.exceptions import SecurityError
    from jinja2.utils import Namespace

    def checked(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace of a chat template stores no {name!r}: rename the attribute")

    class Guarded(Namespace):
        def __init__(*args: Any, **kwargs: Any) -> None:
            own, values = args[0], dict(*args[1:], **kwargs)
            for name in values:
                checked(name)
            Namespace.__init__(own, values)

        def __setitem__(self, name: str, value: Any) -> None:
            checked(name)
            super().__setitem__(name, value)

    return Guarded
