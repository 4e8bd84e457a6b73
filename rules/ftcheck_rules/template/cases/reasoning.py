"""Must-fail and must-pass inputs of the rule `reasoning`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.inputs import thinking
from ftcheck.inputs.row_texts import ReadRow
from ftcheck.inputs.tokenizer import Message
from ftcheck.testing import (
    Case,
    FakeTokenizer,
    inputs,
    job,
    prepared,
    rows,
    sample,
    serving_side,
    token_store,
)

ASKED: Message = {"role": "user", "content": "The capital of France?"}
THOUGHT = "The user asks for a city, and Paris is the capital."


class Thinks(FakeTokenizer):
    """Renders reasoning of the key `reads` between tags, as far as `past` allows it in earlier turns.

    `opens` stands at the end of every prompt, unless the switch enable_thinking is false; `blank` before
    answers without reasoning.
    """

    reads: str = "reasoning_content"
    past: bool = True
    opens: str = ""
    blank: str = ""

    def render(self, messages: Sequence[Message], *, prompt: bool = False, **switches: Any) -> str:
        """The conversation as text."""
        last = max((n for n, one in enumerate(messages) if one["role"] == "user"), default=-1)
        turns = [self._written(one, n > last) for n, one in enumerate(messages)]
        text = super().render(turns, prompt=prompt)
        return text + (self.opens if prompt and switches.get("enable_thinking", True) else "")

    def _written(self, message: Message, current: bool) -> Message:
        if message["role"] != "assistant":
            return message
        thought, content = message.get(self.reads), message.get("content") or ""
        if thought and (current or self.past):
            return {**message, "content": f"<think>\n{thought}\n</think>\n\n{content}"}
        return {**message, "content": (self.blank if current else "") + content}


def thinks(**changes: Any) -> Thinks:
    """A tokenizer whose template renders reasoning."""
    made = Thinks(chat_template="enable_thinking", training_template="enable_thinking")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Reads:
    """Rows that can be read again."""

    def __init__(self, talks: Sequence[Sequence[Message]], data: Mapping[str, Any]) -> None:
        """`data` are the columns of all rows."""
        self._talks, self._data = talks, data

    def said(self, rows: Sequence[int]) -> list[str]:
        """Not asked for."""
        return ["" for _ in rows]

    def read(self, rows: Sequence[int]) -> list[ReadRow]:
        """These rows."""
        return [ReadRow(row, tuple(self._talks[row]), data=self._data) for row in rows]


def answered(content: str = "Paris", **more: Any) -> tuple[Message, ...]:
    """A question and its answer."""
    return (ASKED, {"role": "assistant", "content": content, **more})


def given(
    *talks: Sequence[Message],
    using: FakeTokenizer | None = None,
    remarks: Mapping[str, Sequence[int]] | None = None,
    serving: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    trained: int | None = None,
    system: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The rule's inputs for these conversations; the remarks that the preparation would give stand beside."""
    side = using or thinks()
    drawn = sample(*talks, using=side)
    lengths = [len(one.ids) for one in drawn.rows]
    in_loss = None if trained is None else [trained] * len(lengths)
    sections: dict[str, Any] = {} if serving is None else {"serving": serving}
    made = job(training=training or {}, **sections)
    switches = (serving or {}).get("chat_template_kwargs", {})
    served = serving_side(side)
    return {
        "job": made,
        "tokenizer": side,
        "serving": type(served)(served.tokenizer, same=True, switches=switches),
        "prepared": prepared(
            lengths,
            trained=in_loss,
            of=rows(len(lengths), remarks=remarks, turns=[2] * len(lengths), system=system),
            tokens=token_store(*(one.ids for one in drawn.rows), trained=in_loss),
        ),
        "sample": drawn,
        "inputs": inputs(made, row_texts=Reads(talks, data or {})),
    }


def lost(key: str = "thoughts", **more: Any) -> dict[str, Any]:
    """One row, whose template does not read the key."""
    remarks = {"thought": [0], f"thought-in:{key}": [0], "thought-lost": [0]}
    return given(answered(**{key: THOUGHT}), remarks=remarks, **more)


def _kept(**more: Any) -> dict[str, Any]:
    remarks = {"thought": [0], "thought-in:reasoning_content": [0]}
    return given(answered(reasoning_content=THOUGHT), remarks=remarks, **more)


def _open() -> dict[str, Any]:
    remarks = {"thought-open": [0]}
    return given(answered(f"{thinking.TAGS[0].open}\n{THOUGHT}"), remarks=remarks)


def _mixed(**more: Any) -> dict[str, Any]:
    remarks = {"thought": [0], "thought-in:reasoning_content": [0], **more}
    return given(answered(reasoning_content=THOUGHT), answered("Rome"), remarks=remarks)


CASES = (
    Case("reasoning", "reasoning under a key that the template does not read", True, lost),
    Case("reasoning", "a thinking block that is never closed", True, _open),
    Case(
        "reasoning",
        "a prompt that opens a block, and rows without reasoning",
        True,
        lambda: given(answered(), using=thinks(opens="<think>\n")),
    ),
    Case("reasoning", "reasoning in half of the rows, and nothing that tells them apart", True, _mixed),
    Case(
        "reasoning",
        "reasoning that alone is longer than the cap",
        True,
        lambda: _kept(serving={"max_new_tokens": 16}),
    ),
    Case("reasoning", "reasoning that is rendered and trained", False, _kept),
    Case(
        "reasoning",
        "an empty block in the rows without reasoning",
        False,
        lambda: _mixed(**{"thought-marked": [1]}),
    ),
    Case(
        "reasoning",
        "a prompt that opens a block as the rows do",
        False,
        lambda: _kept(using=thinks(opens="<think>\n")),
    ),
)
