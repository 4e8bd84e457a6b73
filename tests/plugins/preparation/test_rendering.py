"""Templates rendered directly give what transformers gives, or that way is left."""

import pytest
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation import template_limits
from ftcheck_plugins.preparation.rendering import (
    Differs,
    Rendered,
    Renderer,
    Request,
)

from tests.plugins.preparation.kit import turns

MARKED = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}{{ tools | tojson if tools }}{{ mood }}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


ODD_ROWS: tuple[Request, ...] = (
    Request(turns()),
    Request(turns(), opening=True),
    Request(turns(), marked=True),
    Request(turns(), tools=[{"type": "function", "function": {"name": "f"}}]),
    Request(turns(), kwargs={"mood": "calm"}),
    Request(turns(), kwargs={"add_generation_prompt": True}),
    Request(turns(), kwargs={"tokenize": True}),
    Request([{**turns()[0], "tool_calls": None}, turns()[1]]),
    Request([{**turns()[0], "content": None}], marked=True),
    Request([*turns(), {"role": "assistant", "content": "so", "thinking": "hm"}]),
    Request([{"role": "user"}]),
)


@pytest.mark.parametrize("number", range(len(ODD_ROWS)))
def test_a_compiled_template_renders_what_transformers_renders(chat: ChatTokenizer, number: int) -> None:
    chat.training_template = MARKED
    request = ODD_ROWS[number]
    direct, slow = Renderer(chat), Renderer(chat, direct=False)

    mine, theirs = direct.batch([request])[0], slow.batch([request])[0]

    assert type(mine) is type(theirs)
    assert mine == theirs or str(mine) == str(theirs)


def test_most_rows_are_rendered_directly(chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.training_template = MARKED
    renderer = Renderer(chat)
    renderer.batch([Request(turns())])
    monkeypatch.setattr(renderer, "_by_transformers", lambda request: Rendered("not asked", []))
    monkeypatch.setattr(renderer, "_check", lambda requests, direct: None)

    texts = [one.text for one in renderer.batch([Request(turns(f"n{n}")) for n in range(3)])]  # type: ignore[union-attr]

    assert texts == [f"<user>how?<assistant>n{n}</s>" for n in range(3)]


def test_a_template_that_differs_each_time_ends_the_direct_way(chat: ChatTokenizer) -> None:
    chat.training_template = "{{ range(99999) | random }}{{ messages[0].content }}"

    with pytest.raises(Differs, match="differs"):
        Renderer(chat).batch([Request(turns())] * 3)


def test_a_row_that_loops_for_ever_is_stopped_and_the_others_are_rendered(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_limits, "SECONDS", 0.3)
    chat.training_template = (
        "{% if messages[0].content == 'loop' %}{% for a in range(9999) %}{% for b in range(9999) %}"
        "{% set c = a * b %}{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}"
    )
    rows = [Request([{"role": "user", "content": text}]) for text in ("one", "loop")]

    made = Renderer(chat).batch(rows)

    assert made[0] == Rendered("one", [])
    assert isinstance(made[1], template_limits.OutOfBounds)
