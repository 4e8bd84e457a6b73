"""The table of what real templates do with tools, held against a rendering and a reading of its own."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.faults.tools import (
    ANSWERED,
    ARGUMENTS,
    ASKED,
    IDS,
    RESULTS,
    SPECIAL,
    TOOL,
    conversation,
    templates,
    verdict,
)

pytestmark = pytest.mark.realdata


def made(template: str, messages: Any, tools: Any) -> str | None:
    """A conversation rendered with jinja2 alone; None where the template raises."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def refuse(message: str) -> None:
        raise ValueError(message)

    def as_json(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **more)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = as_json
    environment.globals.update(raise_exception=refuse, strftime_now=lambda form: "2026")
    try:
        return environment.from_string(template).render(
            messages=json.loads(json.dumps(messages)),
            tools=json.loads(json.dumps(tools)),
            add_generation_prompt=False,
            documents=None,
            **SPECIAL,
        )
    except Exception:
        return None


def between(text: str) -> str:
    """What stands behind the question, up to the first result or the answer."""
    behind = text.partition(str(ASKED["content"]))[2] or text
    for mark in (RESULTS[0], str(ANSWERED["content"])):
        if mark in behind:
            return behind.partition(mark)[0]
    return behind


def read(text: str | None) -> str:
    """What has become of the first call, by words that stand nowhere else."""
    if text is None:
        return "raises"
    call = between(text)
    if '\\"town\\"' in call:
        return "encoded twice"
    if '{{"town"' in call:
        return "braced"
    if "&#34;" in call:
        return "escaped"
    return "right" if "Turin" in call and "86421" in call and "open_case" in call else "dropped"


@pytest.mark.parametrize("name", list(templates()))
def test_the_verdicts_agree_with_a_reading_of_another_rendering(name: str) -> None:
    template, told = templates()[name], verdict(name, templates()[name])
    texts = {
        "objects": made(template, conversation(ARGUMENTS[0]), [TOOL]),
        "texts": made(template, conversation(json.dumps(ARGUMENTS[0])), [TOOL]),
    }

    assert {form: read(text) for form, text in texts.items()} == {
        "objects": told.objects,
        "texts": told.texts,
    }
    form = "texts" if told.objects != "right" and told.texts == "right" else "objects"
    text = texts[form]
    if text is None:
        assert told.definitions == told.results == "raises"
        return
    assert (TOOL["function"]["description"] in text) == (told.definitions == "kept")  # type: ignore[index]
    assert (RESULTS[0] in text) == (told.results == "kept")
    if getattr(told, form) == "right":
        written: Any = (lambda one: json.dumps(one)) if form == "texts" else (lambda one: one)
        both = made(template, conversation(*map(written, ARGUMENTS)), [TOOL])
        values = [str(value) for one in ARGUMENTS for value in one.values()]
        kept = both is not None and all(value in both for value in values)
        assert {"one turn": kept, "raises": both is None}.get(told.parallel, not kept and both is not None)
        null = made(template, conversation(written({"town": "Turin", "badge": None})), [TOOL])
        assert null is not None
        assert told.null == (
            "None" if "None" in between(null) else "null" if "null" in between(null) else "left out"
        )
    if told.bare in ("same", "other text"):
        bare = made(
            template,
            conversation(*([json.dumps(ARGUMENTS[0])] if form == "texts" else ARGUMENTS[:1])),
            [TOOL["function"]],
        )
        assert (bare == text) == (told.bare == "same")


def test_the_counts_are_those_that_were_measured() -> None:
    found = [verdict(name, template) for name, template in templates().items()]

    assert len(found) == 193
    assert Counter(one.texts for one in found if one.objects == "right")["encoded twice"] == 32
    assert sum(one.supports for one in found) >= 100


def test_ids_are_those_that_every_template_takes() -> None:
    assert all(len(one) == 9 and one.isalnum() for one in IDS)
