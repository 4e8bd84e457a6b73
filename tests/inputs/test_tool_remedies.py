"""Other ways to write tool calls, tried on a template that takes one of them only."""

from collections.abc import Sequence
from typing import Any

import pytest

from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_remedies import one_call_each, remedy, renders, with_ids
from tests.faults.tools import ARGUMENTS, TOOL, conversation, rendered


def render_with(template: str) -> Any:
    def render(messages: Sequence[Message], tools: Any) -> str:
        text = rendered(template, messages, tools or ())
        if text is None:
            raise ValueError("raised")
        return text

    return render


START = (
    "{% for t in tools %}{{ t.function | tojson }}{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{% if m.tool_calls %}"
)
END = "{% else %}{{ m.content }}{% endif %}{% endfor %}"
EACH = "{% for c in m.tool_calls %}{{ c.function.name }}:"


@pytest.mark.parametrize(
    ("inside", "arguments", "code"),
    [
        (f"{EACH}{{{{ c.function.arguments | tojson }}}}{{% endfor %}}", ['{"town": "Turin"}'], "object"),
        (f"{EACH}{{{{ '' + c.function.arguments }}}}{{% endfor %}}", [{"town": "Turin"}], "text"),
        (
            "{% if m.tool_calls | length > 1 %}{{ raise_exception('one') }}{% endif %}"
            f"{EACH}{{{{ c.function.arguments | tojson }}}}{{% endfor %}}",
            ARGUMENTS,
            "one-call",
        ),
        (
            f"{EACH}{{% if c.id | length != 9 %}}{{{{ raise_exception('nine') }}}}{{% endif %}}"
            "{{ c.function.arguments | tojson }}{% endfor %}",
            [{"town": "Turin"}],
            "ids",
        ),
    ],
)
def test_the_way_that_is_rendered_rightly_is_found(inside: str, arguments: Sequence[Any], code: str) -> None:
    messages = conversation(*arguments)
    if code == "ids":
        messages = [
            {**one, "tool_calls": [{**call, "id": f"call_{call['id']}"} for call in one["tool_calls"]]}
            if "tool_calls" in one
            else {**one, "tool_call_id": f"call_{one['tool_call_id']}"}
            if "tool_call_id" in one
            else one
            for one in messages
        ]
    render = render_with(START + inside + END)

    found = remedy(messages, [TOOL], render)

    assert not renders(messages, [TOOL], render)
    assert found is not None
    assert found.code == code


def test_nothing_is_found_for_a_template_that_knows_no_tools() -> None:
    render = render_with("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}")

    assert remedy(conversation(ARGUMENTS[0]), [TOOL], render) is None


def test_one_call_each_keeps_calls_and_results_together() -> None:
    made, _ = one_call_each(conversation(*ARGUMENTS), None)

    assert [one["role"] for one in made] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    calls = [one["tool_calls"][0]["id"] for one in made if "tool_calls" in one]
    assert calls == [one["tool_call_id"] for one in made if one["role"] == "tool"]


def test_ids_stay_together_and_right_ones_stay_as_they_are() -> None:
    turns = conversation(*ARGUMENTS)
    assert with_ids(turns, None)[0] == turns

    long = [
        {**one, "tool_calls": [{**call, "id": "call_" + call["id"]} for call in one["tool_calls"]]}
        if "tool_calls" in one
        else one
        for one in turns
    ]
    made, _ = with_ids(long, None)
    assert all(len(call["id"]) == 9 and call["id"].isalnum() for call in made[1]["tool_calls"])
