"""Tool calls that a template or the data spoils in silence (issue 14, item 1): planted for the bench."""

import json
from collections.abc import Callable
from typing import Any

from tests.faults.bench import Bench, Row
from tests.faults.catalogue import Fault, Plant

FAULTS: list[Fault] = []
BASES = ("tools", "tool-turns")
"""Clean jobs with calls, of two templates: calls as JSON that end the row, and as XML with results."""


def fault(id: str, where: str, severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        FAULTS.extend(
            Fault(f"{id}-{base}", "tools", "tool-calls", where, plant, base, severity) for base in BASES
        )
        return plant

    return listed


def _calling(row: Row) -> dict[str, Any]:
    """The first message of a row that calls."""
    turn: dict[str, Any] = next(one for one in row["messages"] if one.get("tool_calls"))
    return turn


def _function(row: Row) -> dict[str, Any]:
    function: dict[str, Any] = _calling(row)["tool_calls"][0]["function"]
    return function


def _schema(row: Row) -> dict[str, Any]:
    """A row's own copy of the parameters that its function declares."""
    row["tools"] = json.loads(json.dumps(row["tools"]))
    parameters: dict[str, Any] = row["tools"][0]["function"]["parameters"]
    return parameters


WITHOUT_TOOLS = (
    "{{- bos_token }}{%- for m in messages -%}"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' -}}"
    "{%- if m['role'] == 'assistant' -%}{% generation %}"
    "{{- (m['content'] or '') | trim + '<|eot_id|>' -}}{% endgeneration %}"
    "{%- else -%}{{- m['content'] | trim + '<|eot_id|>' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
)


@fault("calls-vanish", "train.jsonl:1")
def _(bench: Bench) -> None:
    """The template is one of those that know no tools."""
    bench.template = WITHOUT_TOOLS


@fault("definitions-in-functions", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Definitions stand in a column that the trainer does not read."""
    for row in bench.train:
        row["functions"] = row.pop("tools")


@fault("tools-null-in-half", "train.jsonl:2", "warning")
def _(bench: Bench) -> None:
    """Every second row has no definitions."""
    for row in bench.train[1::2]:
        row["tools"] = None


@fault("undeclared-function", "train.jsonl:4")
def _(bench: Bench) -> None:
    """Calls of a function that nobody defined."""
    for row in bench.train[3::10]:
        _function(row)["name"] = "route_request"


@fault("required-argument-missing", "train.jsonl:4")
def _(bench: Bench) -> None:
    """Calls without an argument that the definition requires."""
    for row in bench.train:
        _schema(row)["required"] = ["team"]
    for row in bench.train[3::10]:
        del _function(row)["arguments"]["team"]


@fault("argument-of-other-type", "train.jsonl:4")
def _(bench: Bench) -> None:
    """A list where the definition says string."""
    for row in bench.train[3::10]:
        _function(row)["arguments"]["team"] = [_function(row)["arguments"]["team"]]


@fault("argument-undeclared", "train.jsonl:4", "warning")
def _(bench: Bench) -> None:
    """An argument that the definition does not know."""
    for row in bench.train[3::10]:
        _function(row)["arguments"]["colour"] = "green"


@fault("argument-null", "train.jsonl:4", "warning")
def _(bench: Bench) -> None:
    """A null where the definition says string."""
    for row in bench.train[3::10]:
        _function(row)["arguments"]["urgency"] = None


@fault("arguments-not-json", "train.jsonl:4")
def _(bench: Bench) -> None:
    """A text that was cut, where an object should stand; the template writes what stands there."""
    given = "call.function.arguments"
    for text, other in (
        (f"({given} | tojson)", f"({given} if {given} is string else {given} | tojson)"),
        (f"{given} | items", f"({given} if {given} is mapping else {{'all': {given}}}) | items"),
    ):
        bench.template = (bench.template or "").replace(text, other)
    for row in bench.train[3::10]:
        _function(row)["arguments"] = '{"team": "net'


GEMMA_CALL = (
    "{{- 'call:' + call.function.name + '{' -}}"
    "{%- if call.function.arguments is string -%}{{- call.function.arguments -}}{%- else -%}"
    "{%- for name, value in call.function.arguments | items -%}{{- name ~ ':<|' ~ value ~ '|>,' -}}"
    "{%- endfor -%}{%- endif -%}{{- '}' -}}"
)


@fault("arguments-in-braces-of-their-own", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Gemma 4's template: objects in its own notation, texts as they are between its braces."""
    call = "{%- for call in message.tool_calls -%}"
    start, _, rest = (bench.template or "").partition(call)
    end = rest.partition("{%- endfor -%}\n{%- else")[2]
    bench.template = f"{start}{call}{GEMMA_CALL}{{%- endfor -%}}\n{{%- else{end}"
    for row in bench.train:
        _function(row)["arguments"] = json.dumps(_function(row)["arguments"])
    bench.set("training.max_length", 1024)


@fault("calls-escaped-as-html", "train.jsonl:1")
def _(bench: Bench) -> None:
    """mistral-common's templates: what stands around the name is escaped."""
    template = bench.template or ""
    for text, escaped in (
        ('{"name": "', "{&#34;name&#34;: &#34;"),
        ('", "arguments": ', "&#34;, &#34;arguments&#34;: "),
    ):
        template = template.replace(f"'{text}'", f"'{escaped}'")
    bench.template = template.replace("'<function='", "'&lt;function='").replace(
        "name + '>'", "name + '&gt;'"
    )


@fault("one-call-of-two", "train.jsonl:4")
def _(bench: Bench) -> None:
    """The template writes the first call of a turn only."""
    bench.template = (bench.template or "").replace("in message.tool_calls", "in message.tool_calls[:1]")
    for row in bench.train[3::10]:
        arguments = {"team": "facilities-night", "urgency": "whenever"}
        second = {"type": "function", "function": {"name": "route", "arguments": arguments}}
        _calling(row)["tool_calls"].append(second)


@fault("types-of-python", "train.jsonl:1", "warning")
def _(bench: Bench) -> None:
    """Definitions with the types of another format."""
    for row in bench.train:
        _schema(row)["type"] = "dict"


@fault("content-as-none", "train.jsonl:1")
def _(bench: Bench) -> None:
    """The template writes the content beside calls, and that is not there."""
    call = "{%- for call in message.tool_calls -%}"
    bench.template = (bench.template or "").replace(call, "{{- message.content | default('None') }}" + call)
    for row in bench.train:
        _calling(row)["content"] = None


@fault("calls-as-text", "train.jsonl:1", "warning")
def _(bench: Bench) -> None:
    """Calls stand in the content, in a format of their own."""
    for row in bench.train:
        turn = _calling(row)
        del turn["tool_calls"]
        turn["content"] = '<functioncall> {"name": "route", "arguments": {"team": "hardware"}}'


@fault("result-without-call", "train.jsonl:4", "warning")
def _(bench: Bench) -> None:
    """A result stands where nothing was called."""
    for row in bench.train[3::10]:
        at = row["messages"].index(_calling(row))
        row["messages"].insert(at, {"role": "tool", "content": "The team was told at once."})
        row["messages"].insert(at, {"role": "assistant", "content": "I will look that up."})


@fault("call-without-result", "train.jsonl:4", "warning")
def _(bench: Bench) -> None:
    """The conversation goes on as if nothing had been called."""
    for row in bench.train[3::10]:
        turns = [one for one in row["messages"] if one["role"] != "tool"]
        row["messages"] = [
            *turns,
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "It is done."},
        ]


@fault("results-dropped", "train.jsonl:1")
def _(bench: Bench) -> None:
    """The template skips the role tool."""
    bench.template = (bench.template or "").replace(
        "{%- for message in messages -%}", "{%- for message in messages if message.role != 'tool' -%}"
    )
    for row in bench.train:
        if all(one["role"] != "tool" for one in row["messages"]):
            row["messages"].append({"role": "tool", "content": "The team was told at once."})
            row["messages"].append({"role": "assistant", "content": "The team knows of it now."})
