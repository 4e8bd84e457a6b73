"""A tiny model learns to call tools: trained by `ftcheck train`, judged on held-back calls by stage after.

The last acceptance line of issue 14. The task is small on purpose (two functions, closed sets of arguments):
a model of a million parameters learns it in seconds on the CPU, and its base gets none of it right.
"""

import json
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.cli.project import Project, Ran

pytest.importorskip("trl")
pytestmark = pytest.mark.train

TEMPLATE = """
{%- if tools %}{{ bos_token }}Tools: {% for tool in tools %}{{ tool.function.name }}
{%- for name in tool.function.parameters.properties %} {{ name }}{% endfor %}; {% endfor %}
{%- else %}{{ bos_token }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}{{ 'assistant: ' }}{% generation %}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{{ message.content or '' }}{{ eos_token }}{% endgeneration %}
{%- else %}{{ message.role + ': ' + message.content + '\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}
"""
ROOMS, LEVELS = ("kitchen", "office", "garage", "hall"), ("low", "medium", "high")
ITEMS, UNITS = ("paper", "ink", "cable", "mouse"), ("box", "pallet", "sample")
ASKED = {
    "set_light": (
        "set the light in the {room} to {level}",
        "light in the {room}: {level}",
        "I want {level} light in the {room}",
    ),
    "order": ("order a {unit} of {item}", "we are out of {item}, get a {unit}", "{item}, one {unit}"),
}
BEFORE = ("", "Please ", "Hello, ", "Hi there, ", "Today: ", "Quick one: ")
AFTER = ("", ", please.", ", thanks.", " now.", " today.")
HELD, LEARNED = 40, 960
LEAST = 0.9
"""The share of held-back calls that must be right: 40 of 40 were when this was written, 0 of the base's."""
NIGHT = """
ftcheck: 1
name: night
extends: [recommended]
jobs:
  house:
    model: {name: MODEL, chat_template: template.jinja}
    data: {train: train.jsonl, gold: {path: gold.json}}
    training:
      max_length: 128
      per_device_train_batch_size: 16
      learning_rate: 8.0e-3
      num_train_epochs: 3
      bf16: false
      gradient_checkpointing: false
      lr_scheduler_type: cosine
      warmup_steps: 0.05
      assistant_only_loss: true
      save_strategy: "no"
      output_dir: run
    serving:
      {engine: vllm, tool_parser: hermes, max_new_tokens: 64, max_input_tokens: 128, over_limit: reject,
       log: token-counts}
    targets: {accuracy: 0.9}
checks: {duplicates: false}
gate: {fail_on: error, require: ["*::tool-parser"]}
"""
MORNING = """
ftcheck: 1
name: morning
stage: after
extends: [./night.yaml, recommended_after]
checks: {accuracy: {params: {min_rows: 20}}}
gate: {require: ["*::accuracy", "*::valid-output"]}
"""


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": name,
            "parameters": {**schema, "additionalProperties": False},
        },
    }


TOOLS = [
    tool("set_light", room={"enum": list(ROOMS)}, level={"enum": list(LEVELS)}),
    tool("order", item={"enum": list(ITEMS)}, unit={"enum": list(UNITS)}),
]


def examples() -> list[tuple[str, dict[str, Any]]]:
    """Every question with its call, in a fixed random order: no question stands there twice."""
    light: list[dict[str, Any]] = [{"room": room, "level": level} for room, level in product(ROOMS, LEVELS)]
    order: list[dict[str, Any]] = [{"item": item, "unit": unit} for item, unit in product(ITEMS, UNITS)]
    made = [
        (before + words.format(**arguments) + after, {"name": name, "arguments": arguments})
        for name, calls in (("set_light", light), ("order", order))
        for arguments, words, before, after in product(calls, ASKED[name], BEFORE, AFTER)
    ]
    Random(3).shuffle(made)
    return made


def write(folder: Path, samples: Path) -> None:
    """The project: rows to learn from, and questions held back."""
    made = examples()
    rows = [
        {
            "messages": [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
            ],
            "tools": TOOLS,
        }
        for asked, call in made[HELD : HELD + LEARNED]
    ]
    gold = [
        {"input": asked, "expected": {"tool_calls": [{"type": "function", "function": call}]}, "tools": TOOLS}
        for asked, call in made[:HELD]
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    (folder / "gold.json").write_text(json.dumps(gold, indent=0), encoding="utf-8")
    (folder / "template.jinja").write_text(TEMPLATE.lstrip("\n").rstrip("\n"), encoding="utf-8")
    night = NIGHT.replace("MODEL", str(samples / "models" / "mapper-tiny"))
    (folder / "night.yaml").write_text(night, encoding="utf-8")
    (folder / "morning.yaml").write_text(MORNING, encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Project:
    """The job checked the night before, and trained."""
    folder = tmp_path_factory.mktemp("calls")
    write(folder, samples)
    project = Project(folder)
    night = project.call("run", "night.yaml", "--offline", "-o", "json=night.json")
    assert night.code == 0, night.out + night.err
    ran = project.call("train", "night.yaml", "--job", "house", "--offline", "--report", "night.json")
    assert ran.code == 0, ran.out + ran.err
    return project


@pytest.fixture(scope="module")
def morning(trained: Project) -> Ran:
    return trained.call("run", "morning.yaml", "--offline", "-o", "json=r.json")


def measured(ran: Ran, check: str) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in ran.result(check)["measurements"]}


def test_held_back_calls_are_right_that_the_base_gets_wrong(morning: Ran) -> None:
    found = measured(morning, "house::accuracy")

    assert found["n"] == HELD
    assert found["accuracy"] >= LEAST, morning.out
    assert found["accuracy.function"] >= 0.9
    assert measured(morning, "house::regression")["base_accuracy"] == 0.0
    assert found["accuracy.function"] >= found["accuracy.arguments"] == found["accuracy"]


def test_the_calls_of_the_answers_satisfy_their_tools(morning: Ran) -> None:
    assert measured(morning, "house::valid-output")["calls_valid"] >= 0.9
    assert measured(morning, "house::valid-output")["cut_share"] <= 0.05
