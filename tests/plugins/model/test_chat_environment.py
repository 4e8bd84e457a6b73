"""The sandbox for templates without transformers: what it renders and refuses is what transformers does."""

import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.chat_environment import by_ftcheck, by_transformers, is_known
from ftcheck_plugins.model.direct_rendering import Compiled, as_seen

from tests.places import DATA

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Looks <it> & 'up' - größer.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WORDS = ("hello", "  led", "trailed \n", "", "<think>x</think>\n\nyes", "a</think>b", '{"x": 1}', "漢字")


def shipped() -> list[Path]:
    trl = pytest.importorskip("trl")
    return sorted((Path(trl.__file__).parent / "chat_templates").rglob("*.jinja"))


def conversations(count: int) -> list[list[dict[str, Any]]]:
    """Conversations with and without system prompt, thoughts, calls and results."""
    rng = random.Random(0)
    made = []
    for number in range(count):
        turns: list[dict[str, Any]] = []
        if rng.random() < 0.5:
            turns.append({"role": "system", "content": rng.choice(WORDS)})
        for _ in range(rng.randint(1, 3)):
            turns.append({"role": "user", "content": rng.choice(WORDS)})
            answer: dict[str, Any] = {"role": "assistant", "content": rng.choice(WORDS)}
            if number % 3 == 1:
                answer[rng.choice(["reasoning_content", "thinking", "reasoning"])] = rng.choice(WORDS)
            turns.append(answer)
        if number % 3 == 2:
            call = {"name": "weather", "arguments": {"city": "Köln", "days": 2, "strict": True, "at": None}}
            turns[-1]["tool_calls"] = [{"id": "abcdefghi", "type": "function", "function": call}]
            turns.append({"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": "{}"})
        made.append(turns)
    return made


def outcome(compile: Any, template: str, turns: Any, tools: Any, *, marked: bool, opening: bool) -> Any:
    seen = as_seen(turns, tools, {})
    assert seen is not None
    try:
        return Compiled(template, SPECIALS, compile).render(
            seen, {}, tools=tools, marked=marked, opening=opening
        )
    except Exception as error:
        return type(error).__name__, str(error)


def whole(template: str, turns: Any, tools: Any, *, marked: bool, opening: bool) -> Any:
    """As `apply_chat_template` goes about it, with its own renaming of thoughts."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, spans = render_jinja_template(
            conversations=[turns],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=marked,
            add_generation_prompt=opening,
            **SPECIALS,
        )
    except Exception as error:
        return type(error).__name__, str(error)
    return texts[0], spans[0] if marked else []


def test_the_installed_transformers_is_one_whose_sandbox_was_read() -> None:
    """Where this fails: read its chat_template_utils.py, then add its digest to the table."""
    assert is_known()


def test_every_template_of_trl_is_rendered_as_by_transformers() -> None:
    compared = differing = 0
    for path in shipped():
        template = path.read_text(encoding="utf-8")
        for number, turns in enumerate(conversations(24)):
            tools = [TOOL] if number % 4 else None
            for marked, opening in ((False, False), (True, False), (False, True)):
                switches = {"marked": marked, "opening": opening}
                mine = outcome(by_ftcheck, template, turns, tools, **switches)
                compared += 1
                differing += mine != whole(template, turns, tools, **switches)
    assert (compared > 1_000, differing) == (True, 0)


@pytest.mark.realdata
def test_real_templates_are_rendered_as_by_transformers() -> None:
    found = sorted((DATA / "templates").rglob("*.jinja"))
    if not found:
        pytest.skip("no shared data here")
    differing = []
    for path in found:
        template = path.read_text(encoding="utf-8")
        for number, turns in enumerate(conversations(6)):
            tools = [TOOL] if number % 2 else None
            mine = outcome(by_ftcheck, template, turns, tools, marked=True, opening=False)
            if mine != whole(template, turns, tools, marked=True, opening=False) and not dated(template):
                differing.append((path.name, number, mine))
    assert differing == []


def dated(template: str) -> bool:
    """Whether two renderings may differ by the clock alone."""
    return "strftime_now" in template and ("%S" in template or "%f" in template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no ' ~ messages[0].role) }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}",
        "{% set ns = namespace(_a=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 2 %}",
        "{{ dict(a=1) | tojson }}{{ dict.fromkeys(['x', 'y'], 1) | tojson(indent=2) }}",
        "{{ dict.__class__ }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ {'b': 'ß<&>', 'a': [1.5, none]} | tojson(sort_keys=True, ensure_ascii=True) }}",
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "  {% if true %}\n  x\n  {% endif %}\n",
        "{% generation %}a{% endgeneration %}b{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{{ strftime_now('%Y') }}",
        "{{ undefined_name.more }}",
        "{{ lipsum is defined }}{{ cycler is defined }}{{ range(3) | list }}",
    ],
)
def test_what_templates_are_given_and_refused_is_the_same(template: str) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    mine, theirs = (
        outcome(compile, template, turns, None, marked=True, opening=False)
        for compile in (by_ftcheck, by_transformers)
    )
    kinds = ("SecurityError",)
    assert mine == theirs or (mine[0] in kinds and mine[0] == theirs[0])


def test_a_template_of_ones_own_is_shared_with_nobody() -> None:
    for compile in (by_ftcheck, by_transformers):
        assert compile("x") is compile("x")
        assert compile("x", fresh=True) is not compile("x")


def test_the_clock_is_this_day() -> None:
    assert by_ftcheck("{{ strftime_now('%Y') }}").render() == datetime.now().strftime("%Y")
