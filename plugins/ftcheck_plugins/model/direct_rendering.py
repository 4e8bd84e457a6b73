"""Renders a conversation with a compiled template as `apply_chat_template` does, without its detours.

For conversations that transformers hands on to the template as they are; others are not for this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.inputs.tokenizer import Message
from ftcheck_plugins.model.chat_environment import Compile, by_transformers, is_known

Spans = list[tuple[int, int]]

THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Keys of a message for its reasoning: transformers gives what stands under one of them to all templates."""
TAKEN = frozenset(
    {
        "conversation", "conversations", "messages", "tools", "documents", "chat_template", "tokenize",
        "add_generation_prompt", "continue_final_message", "sanitize_control_tokens", "padding",
        "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
        "tokenizer_kwargs", "self",
    }
)  # fmt: skip
"""Arguments of `apply_chat_template`: a row's chat_template_kwargs that have such a name are no variables."""
SCALARS = frozenset({str, int, float, bool, type(None)})


class Compiled:
    """A compiled template, with what every conversation gets to see."""

    def __init__(
        self, template: str, specials: Mapping[str, Any], compile: Compile = by_transformers
    ) -> None:
        """`specials` are the tokenizer's special tokens. Raises what compiling raises."""
        made = compile(template)
        self._root, self._environment, self._blocks = made.root_render_func, made.environment, made.blocks
        self._globals = dict(made.globals)
        self._shared = {**self._globals, "documents": None, **specials}
        if not _plain(dict(specials)) or not TAKEN.isdisjoint(specials):
            raise ValueError("special tokens that are no texts")

    def render(
        self,
        messages: list[Any],
        kwargs: Mapping[str, Any],
        *,
        tools: Any = None,
        opening: bool = False,
        marked: bool = False,
    ) -> tuple[str, Spans]:
        """The text of messages as `as_seen` gives them, and where its generation blocks are if `marked`."""
        given = {
            **self._shared,
            **kwargs,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": opening,
        }
        context = self._environment.context_class(
            self._environment, given, None, self._blocks, globals=self._globals
        )
        if not marked:
            return self._environment.concat(self._root(context)), []
        blocks: list[str] = []
        spans: Spans = []
        with self._environment.activate_tracker(blocks, spans):
            for block in self._root(context):
                blocks.append(block)
        return "".join(blocks), spans


def as_seen(messages: Sequence[Message], tools: Any, kwargs: Mapping[str, Any]) -> list[Any] | None:
    """The messages as the template sees them: without keys that hold null. None: not this way."""
    if kwargs and not (_plain(dict(kwargs)) and TAKEN.isdisjoint(kwargs)):
        return None
    if tools is not None and not (type(tools) is list and all(type(one) is dict for one in tools)):
        return None
    if tools and not _plain(tools):
        return None
    seen = []
    for message in messages:
        if type(message) is not dict:
            return None
        for value in message.values():
            if type(value) is not str and not _plain(value):
                return None
        if None in message.values():
            message = {key: value for key, value in message.items() if value is not None}
        thoughts = next((message[key] for key in THOUGHTS if key in message), None)
        if thoughts is not None:
            if not is_known():
                return None
            message = {"thinking": thoughts, **message, "reasoning_content": thoughts}
        seen.append(message)
    return seen or None


def _plain(value: Any) -> bool:
    """Whether a value holds nothing but what JSON has, so that transformers hands it on as it is."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind is dict:
            if any(type(key) is not str for key in one):
                return False
            waiting.extend(inner for inner in one.values() if type(inner) not in SCALARS)
        elif kind is list:
            waiting.extend(inner for inner in one if type(inner) not in SCALARS)
        elif kind not in SCALARS:
            return False
    return True
