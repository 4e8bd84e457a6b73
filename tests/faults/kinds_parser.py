"""Calls that the server's parser does not read as training writes them (issue 14, item 4)."""

from collections.abc import Callable

from tests.faults.bench import Bench
from tests.faults.catalogue import Fault, Plant, pad_table, token

FAULTS: list[Fault] = []
BASES = ("chat", "thinking")
"""Clean jobs of two templates and tokenizers: each kind is planted in both."""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "route_ticket",
            "description": "Route a ticket.",
            "parameters": {"type": "object", "properties": {"answer": {"type": "string"}}},
        },
    }
]
TEMPLATE = """{%- if tools %}{{ bos_token or '' }}Tools: {{ tools | tojson }}
{% else %}{{ bos_token or '' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}{{ 'assistant: ' }}{% generation %}
{%- for call in message.tool_calls or [] %}CALL{% endfor %}
{{- message.content or '' }}{{ eos_token }}{% endgeneration %}
{%- else %}{{ message.role + ': ' + message.content + '\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"""
OBJECT = '{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}'
HERMES = f"<tool_call>\n{OBJECT}\n</tool_call>"


def fault(id: str, where: str = "train.jsonl:1", severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        made = (Fault(f"{id}-{base}", "serve", "tool-parser", where, plant, base, severity) for base in BASES)
        FAULTS.extend(made)
        return plant

    return listed


def calling(bench: Bench, parser: str, written: str = HERMES) -> None:
    """Make every answer of a base a call that the template writes so, and declare a parser."""
    bench.template = TEMPLATE.replace("CALL", written)
    for rows in (bench.train, bench.evaluation):
        for row in rows:
            said = [turn for turn in row["messages"] if turn["role"] in ("user", "assistant")]
            row["messages"] = said[:2]  # a call that another question follows wants its result
            for turn in row["messages"]:
                if turn["role"] == "assistant":
                    function = {"name": "route_ticket", "arguments": {"answer": turn.pop("content")}}
                    turn.pop("reasoning_content", None)
                    turn.update(content="", tool_calls=[{"type": "function", "function": function}])
            row["tools"] = TOOLS
    bench.gold = []
    bench.job["data"].pop("gold", None)
    for key in ("output_schema", "system_prompt", "schema_retries"):
        bench.job["serving"].pop(key, None)
    for key, value in (("engine", "vllm"), ("tool_parser", parser), ("max_new_tokens", 256)):
        bench.set(f"serving.{key}", value)
    bench.set("serving.max_input_tokens", 512)
    bench.set("training.max_length", 1024)
    bench.set("training.packing", False)
    bench.job.pop("targets", None)


@fault("tool-parser-of-another-template")
def _(bench: Bench) -> None:
    """Llama's parser reads bare JSON; the template writes parameters one by one."""
    parameters = (
        "{% for key, value in call.function.arguments.items() %}"
        "<parameter={{ key }}>{{ value }}</parameter>{% endfor %}"
    )
    calling(
        bench, "llama3_json", f"<tool_call><function={{{{ call.function.name }}}}>{parameters}</function>"
    )


@fault("tool-call-marks-missing")
def _(bench: Bench) -> None:
    """The template writes the call, but not the marks that the parser looks for."""
    calling(bench, "hermes", OBJECT)


@fault("tool-call-arguments-under-another-key")
def _(bench: Bench) -> None:
    """The template writes `parameters`, the parser reads `arguments`."""
    calling(bench, "hermes", HERMES.replace('"arguments"', '"parameters"'))


@fault("tool-parser-of-another-template-sglang")
def _(bench: Bench) -> None:
    """SGLang's parser for Llama takes calls that an answer begins with; the template writes marks first."""
    calling(bench, "llama3")
    bench.set("serving.engine", "sglang")


@fault("tool-parser-token-missing", "serving.tool_parser")
def _(bench: Bench) -> None:
    """The parser looks up a token that the tokenizer does not have."""
    calling(bench, "mistral", f"[TOOL_CALLS] [{OBJECT}]")


def clean(bench: Bench) -> None:
    """The parser that reads what the template writes."""
    calling(bench, "hermes")


def clean_with_token(bench: Bench) -> None:
    """Mistral's parser, with its token."""
    known = {one["id"] for one in bench.tokenizer["added_tokens"]} | set(
        bench.tokenizer["model"]["vocab"].values()
    )
    token(bench, "[TOOL_CALLS]", max(known) + 1)
    bench.config["vocab_size"] = 2176
    bench.then(lambda bench: pad_table(bench, 2176))
    calling(bench, "mistral", f"[TOOL_CALLS] [{OBJECT}]")
