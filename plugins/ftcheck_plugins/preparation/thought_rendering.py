"""What becomes of reasoning in rendered rows: codes for the rule `reasoning`.

- `thought`: the row has reasoning where it is trained; `thought-in:NAME` under which key or tag.
- `thought-lost`, `thought-lost-past`, `thought-lost-prompt`: the template leaves out reasoning of an answer
  after the last question, of an earlier one, or of one in the prompt.
- `thought-off`: reasoning left out, and the row's own template switches turn thinking off.
- `thought-twice`: rendered twice, once from a key and once from tags.
- `thought-open`: an answer opens a thinking block and never closes it.
- `thought-marked`: a row without reasoning whose rendered text says so by an empty block.
- `thought-switch`: a row with a template switch for thinking.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftcheck.inputs import thinking
from ftcheck_plugins.reading.row_formats import Example

MARKS = tuple({mark for tag in thinking.TAGS for mark in tag})

STEMS = ("think>", "ing>", "thought>", "THINK]", "|>", "channel>thought")
"""One of these stands in each mark: a text without them has none, and that is told fast."""
CLOSING = ("</think>", "</seed:think>", "[/THINK]", "<|END_THINKING|>", "<|inner_suffix|>", "<channel|>")
"""What templates write to say that a row has no reasoning, opened before or not."""
CLOSING_STEMS = ("think>", "THINK", "inner_suffix", "<channel|>")
LONG = 16
"""Characters of a thought that does not stand in a text twice by chance."""


def thoughts(examples: Sequence[Example], texts: Sequence[str | None]) -> Iterator[tuple[str, int]]:
    """The codes of these rows; most rows have no reasoning, which is told of all at once."""
    rendered = "\n".join(filter(None, texts))
    closing = CLOSING if any(stem in rendered for stem in CLOSING_STEMS) else ()
    tagged = {row for row, one in enumerate(examples) if _tagged(one)} if _any_tagged(examples) else set()
    looked = [row for row, one in enumerate(examples) if closing or one.talk is None or row in tagged]
    for row in looked:
        example, text, codes = examples[row], texts[row], set[str]()
        if example.talk is None or row in tagged:
            codes.update(_of_row(example, text) if example.turns else _of_plain(example))
        if "thought" not in codes and text is not None and any(mark in text for mark in closing):
            codes.add("thought-marked")
        for code in sorted(codes):
            yield code, row


def _said(example: Example) -> Sequence[str]:
    """The texts of a row that are nothing but texts; of any other its contents."""
    if example.talk is not None:
        return example.talk.texts
    if not example.turns:
        return [one for one in (example.text, example.prompt, example.completion) if isinstance(one, str)]
    return [one for turn in example.turns if isinstance(one := turn.get("content"), str)]


def _any_tagged(examples: Sequence[Example]) -> bool:
    joined = "\n".join(text for example in examples for text in _said(example))
    return any(stem in joined for stem in STEMS)


def _tagged(example: Example) -> bool:
    return any(mark in text for text in _said(example) for mark in MARKS)


def _of_plain(example: Example) -> Iterator[str]:
    """A row that no template renders."""
    prompt = example.prompt if isinstance(example.prompt, str) else ""
    completion = example.completion if isinstance(example.completion, str) else ""
    found = list(thinking.of_text(example.text or completion))
    yield from _named(found)
    if thinking.open_tag(example.text or prompt + completion) is not None:
        yield "thought-open"


def _named(found: Sequence[thinking.Thought]) -> Iterator[str]:
    if found:
        yield "thought"
    for one in found:
        yield f"thought-in:{one.where}"


def _of_row(example: Example, text: str | None) -> Iterator[str]:
    """A conversation; `text` is None where the template raised, which `chat-template` reports."""
    turns = example.turns
    asked = len(example.prompt) if isinstance(example.prompt, tuple) else 0
    question = max((n for n, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    off = _switched(example.template_kwargs)
    if off is not None:
        yield "thought-switch"
    for number, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        found = thinking.of_message(turn)
        if number >= asked:
            yield from _named(found)
        if text is not None and any(one.text not in text for one in found):
            where = "-prompt" if number < asked else "" if number > question else "-past"
            yield "thought-off" if off else f"thought-lost{where}"
        if text is not None and _twice(found, text):
            yield "thought-twice"
        if number >= asked and text is not None and _left_open(turn, found, text):
            yield "thought-open"


def _switched(kwargs: Mapping[str, Any]) -> bool | None:
    """Whether a row's template switches turn thinking off; None where it sets none of them."""
    stated = [bool(kwargs[name]) for name in thinking.SWITCHES if name in kwargs]
    return None if not stated else not any(stated)


def _twice(found: Sequence[thinking.Thought], text: str) -> bool:
    """One thought under a key and in tags, both rendered."""
    in_tags = {one.text for one in found if one.where not in thinking.KEYS}
    under_keys = {one.text for one in found if one.where in thinking.KEYS}
    return any(len(one) >= LONG and text.count(one) > 1 for one in in_tags & under_keys)


def _left_open(turn: Mapping[str, Any], found: Sequence[thinking.Thought], text: str) -> bool:
    """Whether an answer opens a block that nothing closes: in its own words, or by the template."""
    content = turn.get("content")
    tag = thinking.open_tag(content) if isinstance(content, str) else None
    if tag is not None and isinstance(content, str):
        words = content[content.rfind(tag.open) :].strip()
        place = text.rfind(words)
        return place >= 0 and not text[place + len(words) :].lstrip().startswith(tag.close)
    last = found[-1].text if found and found[-1].where in thinking.KEYS else ""
    place = text.rfind(last) if last else -1
    return place >= 0 and any(
        text[:place].rstrip().endswith(tag.open) and tag.close not in text[place:] for tag in thinking.TAGS
    )
