"""Outlines: what is filled in is what the template would have written, for every conversation."""

import random
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.direct_rendering import Compiled
from ftcheck_plugins.preparation.rendering import _filled
from ftcheck_plugins.preparation.template_outlines import MAX_FORMS, Outline, Outlines
from ftcheck_plugins.reading.row_formats import talk

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
ODD = (
    "hello",
    "  led",
    "trailed \n",
    "",
    "\n",
    "</think>",
    "<think>x</think>\n\nyes",
    "a</think>b",
    '{"x": 1}',
)
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


def conversation(rng: random.Random) -> list[dict[str, Any]]:
    made = [{"role": "system", "content": rng.choice(ODD)}] if rng.random() < 0.4 else []
    for _ in range(rng.randint(1, 3)):
        made += [{"role": role, "content": rng.choice(ODD)} for role in ("user", "assistant")]
    return made


def outline(outlines: Outlines, messages: list[dict[str, Any]], opening: bool = False) -> Outline | None:
    plain = talk(messages)
    return None if plain is None else outlines.of(plain, messages, opening)


def compared(template: str, count: int = 60) -> tuple[int, int]:
    """How many random conversations were filled in, and how many of those came out otherwise."""
    rng = random.Random(0)
    outlines, compiled = Outlines(template, SPECIALS), Compiled(template, SPECIALS)
    filled = wrong = 0
    for _ in range(count):
        messages, opening = conversation(rng), rng.random() < 0.3
        plain = talk(messages)
        found = outline(outlines, messages, opening)
        if plain and found:
            filled += 1
            wrong += _filled(found, plain.texts, True) != compiled.render(
                messages, {}, marked=True, opening=opening
            )
    return filled, wrong


def shipped() -> list[Path]:
    trl = pytest.importorskip("trl")
    return sorted((Path(trl.__file__).parent / "chat_templates").rglob("*.jinja"))


def test_every_template_of_trl_is_filled_in_as_it_renders() -> None:
    found = {path.name: compared(path.read_text(encoding="utf-8")) for path in shipped()}

    assert {name: wrong for name, (_, wrong) in found.items() if wrong} == {}
    assert sum(1 for filled, _ in found.values() if filled) > len(found) / 2
    for name in ("llama3_training.jinja", "phi3_training.jinja", "qwen2_5_training.jinja"):
        assert found[name] == (60, 0)


@pytest.mark.parametrize(
    "looks",
    [
        "{{ m.content | upper }}",
        "{{ m.content | length }}",
        "{{ m.content[:3] }}",
        "{{ m.content.split('a')[0] }}",
        "{{ m.content | replace('a', 'b') }}",
        "{{ m | tojson }}",
        "{{ (m.content ~ '') | upper }}",
        "{{ '%s!' % m.content }}",
        "{% for letter in m.content %}{{ letter }}{% endfor %}",
        "{{ 'x' if m.content > 'g' }}",
        "{{ {'a': 1}[m.content] }}",
        "{{ m.content in 'abc' }}",
        "{{ strftime_now('%H:%M') }}{{ m.content }}",
        "{{ [1, 2, 3] | random }}{{ m.content }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_reads_the_words_is_left_to_jinja(looks: str) -> None:
    outlines = Outlines("{% for m in messages %}" + looks + "{% endfor %}", SPECIALS)

    assert outline(outlines, [{"role": "user", "content": "abc"}]) is None


@pytest.mark.parametrize(
    "asks",
    [
        "{% if m.content %}{{ m.content }}{% endif %}",
        "{% if not m.content | trim %}empty{% endif %}{{ m.content }}",
        "{% if 'a' in m.content %}A{% endif %}{{ m.content }}",
        "{% if m.content == '' %}none{% endif %}{{ m.content }}",
        "{% if m.content in ['hello', '\n'] %}known{% endif %}{{ m.content }}",
        "{% if m.content.startswith('<think>') %}T{% else %}{{ m.content }}{% endif %}",
        "{% if m.content.endswith('\n') %}N{% else %}{{ m.content }}{% endif %}",
        "{% if m.content is string and m.content is not none %}{{ m.content }}{% endif %}",
        "{% set words = '(' + m.content.rstrip() ~ ')' %}{{ words }}{{ words }}",
        "{% macro put(x) %}[{{ x }}]{% endmacro %}{{ put(m.content) }}",
        "{% set block %}{{ m.content }}!{% endset %}{{ block }}",
        "{% generation %}{{ m.content | trim }}</s>{% endgeneration %}{{ loop.index }}",
    ],
)
def test_a_question_about_the_words_leads_each_answer_its_way(asks: str) -> None:
    filled, wrong = compared("{% for m in messages %}" + asks + "{% endfor %}")

    assert (filled, wrong) == (60, 0)


def test_blocks_inside_a_macro_are_not_guessed() -> None:
    template = (
        "{% macro put(x) %}before{% generation %}{{ x }}{% endgeneration %}{% endmacro %}"
        "{% for m in messages %}{{ put(m.content) }}{% endfor %}"
    )
    assert outline(Outlines(template, SPECIALS), [{"role": "user", "content": "abc"}]) is None


def test_other_messages_and_too_many_forms_are_left_to_jinja() -> None:
    outlines = Outlines(PLAIN, SPECIALS)

    assert outline(outlines, [{"role": "user", "content": None}]) is None
    assert outline(outlines, [{"role": "user", "content": "x", "name": "y"}]) is None
    assert outline(outlines, []) is None
    for n in range(MAX_FORMS):
        assert outline(outlines, [{"role": f"r{n}", "content": "x"}]) is not None
    assert outline(outlines, [{"role": "one more", "content": "x"}]) is None
    assert outline(outlines, [{"role": "r0", "content": "y"}]) is not None
