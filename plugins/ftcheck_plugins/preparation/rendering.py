"""Renders many conversations with one chat template, compiled once.

Conversations of roles and texts fill in the template's outline (see `outlines`). For others it is compiled
by transformers' own function (its sandbox, filters and generation tracker) and called directly; one that
transformers would change first (thoughts under other names, values that are no JSON) goes through
transformers, and so does one that raises, for its words. Of each batch some are rendered both ways and
compared: a difference ends this way for the whole pass.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any, NamedTuple

from ftcheck.inputs.tokenizer import Message
from ftcheck_plugins.model.direct_rendering import Compiled, Spans, as_seen
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation import template_limits
from ftcheck_plugins.preparation.template_outlines import Outline, Outlines
from ftcheck_plugins.reading.row_formats import Talk

FIRST_CHECKED = 64
"""Conversations that are rendered both ways in the first batch; later one in `CHECKED_EVERY`."""
CHECKED_EVERY = 250


class Differs(Exception):
    """A fast way gave another result than the trainer's own; the pass begins again without it."""


class Request(NamedTuple):
    """What to render: `marked` asks for generation spans, `opening` for an opened assistant's turn.

    `talk` are the messages, where they are nothing but roles and texts.
    """

    messages: Sequence[Message]
    tools: Any = None
    kwargs: Mapping[str, Any] = MappingProxyType({})
    marked: bool = False
    opening: bool = False
    talk: Talk | None = None


class Rendered(NamedTuple):
    """A conversation as text, with the character spans of its generation blocks where they were asked for.

    Plain text has no spans: None. The tokenizer adds its special tokens to such a text, and to no other.
    """

    text: str
    spans: Spans | None


class Renderer:
    """Renders with a tokenizer's training template; `direct` False leaves all to transformers."""

    def __init__(self, tokenizer: ChatTokenizer, *, direct: bool = True) -> None:
        """Compiles nothing yet: that is done within the bounds of a batch."""
        self._tokenizer = tokenizer
        self._template = tokenizer.training_template
        self._direct = direct and isinstance(self._template, str) and (tokenizer.kept or _known())
        self._compiled: Compiled | None = None
        self._outlines: Outlines | None = None
        self._done = 0

    def batch(self, requests: Sequence[Request]) -> list[Rendered | Exception]:
        """Each conversation rendered, or what rendering it raised. Raises `Differs`."""
        direct = self._directly(requests) if self._direct else [None] * len(requests)
        self._check(requests, direct)
        return [
            done if done is not None else self._by_transformers(one)
            for one, done in zip(requests, direct, strict=True)
        ]

    def _directly(self, requests: Sequence[Request]) -> list[Rendered | None]:
        assert self._template is not None
        try:
            with template_limits.bounded_together(self._template):
                if self._compiled is None or self._outlines is None:
                    specials = self._tokenizer.backend.special_tokens_map
                    compile = self._tokenizer.compile
                    self._compiled = Compiled(self._template, specials, compile)
                    self._outlines = Outlines(self._template, specials, compile)
                return [self._one(self._compiled, self._outlines, one) for one in requests]
        except Exception:
            return [None] * len(requests)

    def _one(self, compiled: Compiled, outlines: Outlines, request: Request) -> Rendered | None:
        talk = request.talk
        if talk is not None and not request.kwargs and request.tools is None:
            outline = outlines.of(talk, request.messages, request.opening)
            if outline is not None:
                return _filled(outline, talk.texts, request.marked)
        messages = as_seen(request.messages, request.tools, request.kwargs)
        if messages is None:
            return None
        try:
            switches = {"tools": request.tools, "opening": request.opening, "marked": request.marked}
            done = Rendered(*compiled.render(messages, request.kwargs, **switches))
        except MemoryError:
            raise
        except Exception:
            return None
        return done if len(done.text) <= template_limits.FREE_OUTPUT else None

    def _by_transformers(self, request: Request) -> Rendered | Exception:
        try:
            if request.marked:
                marked = self._tokenizer.render_marked(request.messages, request.tools, request.kwargs)
                return Rendered(*marked)
            opening = {"add_generation_prompt": True} if request.opening else {}
            text = self._tokenizer.rendered(
                request.messages,
                chat_template=self._template,
                tools=request.tools,
                **opening,
                **request.kwargs,
            )
            return Rendered(text, [])
        except Exception as error:
            return error

    def _check(self, requests: Sequence[Request], direct: Sequence[Rendered | None]) -> None:
        """Render some again as transformers does it; a template that tells the time gets a second look."""
        start = self._done // 7 % CHECKED_EVERY
        chosen = range(start, len(requests), CHECKED_EVERY) if self._done else range(len(requests))
        compared = 0
        for index in chosen:
            mine = direct[index]
            if mine is None or (not self._done and compared >= FIRST_CHECKED):
                continue
            compared += 1
            if self._by_transformers(requests[index]) != mine:
                again = self._directly([requests[index]])[0]
                if self._by_transformers(requests[index]) != again:
                    raise Differs("the chat template is rendered row by row: compiled, it differs")
        self._done += len(requests)


def _filled(outline: Outline, texts: Sequence[str], marked: bool) -> Rendered | None:
    """An outline with a conversation's texts in it, and its spans where they are asked for."""
    parts = outline.fill(texts)
    text = "".join(parts)
    if len(text) > template_limits.FREE_OUTPUT:
        return None
    if not marked:
        return Rendered(text, [])
    ends = [0, *accumulate(map(len, parts))]
    return Rendered(text, [(ends[start], ends[stop]) for start, stop in outline.spans])


def _known() -> bool:
    """Whether transformers prepares conversations in the steps that this module knows."""
    from transformers.utils import chat_template_utils as theirs

    steps = ("_compile_jinja_template", "_plain_template_data", "_alias_reasoning_fields")
    return all(hasattr(theirs, name) for name in steps)
