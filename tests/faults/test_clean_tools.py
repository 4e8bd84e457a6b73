"""Healthy tool-calling jobs on every real template that supports tools, under all recommended checks."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ftcheck import Severity, templates
from ftcheck.records import Result
from tests.faults.bench import Bench, Row
from tests.faults.bench import tools as base
from tests.faults.catalogue import change_table, pad_table, token
from tests.faults.tools import IDS, TOOL, verdict
from tests.faults.tools import SPECIAL as SPECIALS
from tests.faults.tools import templates as real

pytestmark = pytest.mark.realdata

SPECIAL = re.compile(
    r"<\|[^<>|'\" ]{1,40}\|>|<｜[^<>'\" ]{1,40}｜>|\[/?[A-Z_]{3,20}\]|<[a-z_]{2,20}\|>|<\|[a-z_]{2,20}>"
    r"|<(?:start|end)_of_turn>|<seed:[a-z]+>|</?think>|<eo[a-z]+>|<sep>|\[\|[a-z]+\|\]"
)
MARKED = {"<|observation|>", "<|user|>"}
"""Headers of the next turn at which models of GLM's family stop."""
NO_END = "the template ends the last answer with no token, or opens the next one"
PROMPTED = "its prompts end otherwise than its rows go on, with every switch"
MASK = "its generation blocks begin or end elsewhere than the calls"
TRUE: dict[str, tuple[str, ...]] = {
    NO_END: (
        "command_a_tool_use", "Apertus", "Apriel-1.6", "GLM-4.6", "GLM-4.7-Flash", "GLM-5.2", "glm4moe.jinja",
    ),
    PROMPTED: (
        "Apertus", "Apriel-1.6", "Cohere2MoE", "Hermes-2-Pro-Llama-3-8B-tool_use", "hermes2_pro_tool_use",
        "QwQ-32B", "DeepSeek-V3.2", "gemma-4-31B-it-interleaved", "deepseek_tool_call",
        "gemma4-31b", "coderforge",
    ),
    MASK: ("gpt-oss-20b", "gptoss_training", "dllm_sft/diffusion_gemma", "diffusion_gemma_training"),
}  # fmt: skip
"""What is said of templates, and rightly: looked at by hand, one by one."""
SAYING = {
    NO_END: {"trained-tokens", "stop-after-call"},
    PROMPTED: {"chat-template", "evaluation-parity", "reasoning"},
    MASK: {"trained-tokens", "stop-after-call"},
}
"""Which checks say so."""
DATED = "the template writes today's date"
SWITCHES: tuple[dict[str, bool], ...] = ({}, {"enable_thinking": False}, {"thinking": False})
TOWNS = ("Turin", "Dublin", "Berlin", "Lisbon", "Perth")
THINGS = ("lock", "lamp", "printer", "window", "heater", "lift", "camera")


def job(name: str, form: str, folder: Path) -> Bench:
    """Forty rows of calls, results and answers in one form of arguments, on a real template."""
    bench = base(folder)
    bench.template = real()[name]
    bench.train = [_row(number, form) for number in range(40)]
    bench.evaluation = [_row(number, form) for number in range(100, 112)]
    bench.drop("serving.system_prompt")
    switches = next((one for one in SWITCHES if _continues(bench, one)), None)
    if switches is None:
        bench.drop("serving")
    else:
        bench.set("serving.chat_template_kwargs", switches)
        bench.set("serving.max_input_tokens", 4096)
        for row in (*bench.train, *bench.evaluation):
            row |= {"chat_template_kwargs": switches} if switches else {}
    if not _rendered(bench, bench.train[0]["messages"], {}).startswith(SPECIALS["bos_token"]):
        bench.tokenizer["post_processor"] = None
    known = {one["content"] for one in bench.tokenizer["added_tokens"]}
    first = number = len(bench.tokenizer["model"]["vocab"])
    marks = {}
    for mark in sorted({*SPECIAL.findall(bench.template)} - known):
        token(bench, mark, number)
        marks[mark] = number
        number += 1
    bench.config["vocab_size"] = number
    bench.then(lambda bench: _widen(bench, first, number))
    bench.set("training.assistant_only_loss", templates.has_markers(bench.template))
    bench.set("training.packing", False)
    bench.set("training.max_length", 4096)
    bench.config["max_position_embeddings"] = bench.tokenizer_config["model_max_length"] = 8192
    bench.generation = {"eos_token_id": [5, 1, *_stops(bench, marks)]}
    return bench


def _row(number: int, form: str) -> Row:
    thing, town = THINGS[number % 7], TOWNS[number % 5]
    arguments: Any = {"town": town, "badge": 50_000 + number}
    given = json.dumps(arguments) if form == "texts" else arguments
    call = {"id": IDS[0], "type": "function", "function": {"name": "open_case", "arguments": given}}
    result = f"The case is number {11_000 + number}."
    return {
        "messages": [
            {
                "role": "user",
                "content": f"The {thing} at door {number} in {town} is broken, badge {50_000 + number}.",
            },
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": IDS[0], "name": "open_case", "content": result},
            {"role": "assistant", "content": f"Case {11_000 + number} is open: the {thing} will be mended."},
        ],
        "tools": [TOOL],
    }


def _widen(bench: Bench, old: int, rows: int) -> None:
    """A table with a trained row for each added token."""
    import numpy as np

    pad_table(bench, rows)
    drawn = np.random.default_rng(0)
    change_table(
        bench,
        lambda table: table.__setitem__(
            slice(old, None), drawn.normal(0, 0.02, (rows - old, table.shape[1]))
        ),
    )


def _continues(bench: Bench, switches: dict[str, bool]) -> bool:
    """Whether the row goes on where the prompt for each of its answers ends."""
    turns = bench.train[0]["messages"]
    whole = _rendered(bench, turns, switches)
    asked = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
    prompts = [_rendered(bench, turns[:number], switches, add_generation_prompt=True) for number in asked]
    return all(prompt and whole.startswith(prompt) for prompt in prompts)


def _rendered(bench: Bench, turns: list[Row], switches: dict[str, bool], **more: bool) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        made, _ = render_jinja_template(
            conversations=[turns], tools=[TOOL], chat_template=bench.template, **SPECIALS, **switches, **more
        )
    except Exception:
        return ""
    return str(made[0])


def _stops(bench: Bench, marks: dict[str, int]) -> list[int]:
    """The tokens that end an answer on this template, and those that end a call."""
    turns = bench.train[0]["messages"]
    whole, call = (_rendered(bench, one, {}).rstrip() for one in (turns, turns[:2]))
    behind = whole.rpartition(turns[-1]["content"])[2]
    listed = "|".join(re.escape(one) for one in sorted(marks, key=len, reverse=True))
    ends = re.match(rf"\s*((?:{listed})*)", behind) if listed else None
    found = re.findall(listed, ends.group(1)) if ends else []
    opened = next((number for number, one in enumerate(found) if "START" in one), len(found))
    last = [one for one in marks if call.endswith(one) and "CHATBOT" not in one]
    headers = [one for one in marks if one in MARKED]
    return sorted({marks[one] for one in (*found[:opened], *last, *headers)})


def jobs() -> list[tuple[str, str]]:
    """Every template that tools can be trained on, in each form of arguments that it renders rightly."""
    every = [verdict(name, template) for name, template in real().items()]
    return [(one.name, form) for one in every if one.supports for form in one.forms]


def test_there_are_at_least_100_templates_that_render_tools() -> None:
    assert len({name for name, _ in jobs()}) >= 100


@pytest.mark.parametrize(("name", "form"), jobs())
def test_all_checks_are_quiet(name: str, form: str, tmp_path: Path) -> None:
    bench = job(name, form, tmp_path)
    bench.write()
    looked = bench.look()

    loud = {one.check.rule for one in looked.loud if not _dated(one)}
    causes = [cause for cause, names in TRUE.items() if any(part in name for part in names)]
    assert loud <= {rule for cause in causes for rule in SAYING[cause]}, looked.said()
    assert bool(loud) == bool(causes), "nothing is said any more: take it off the list"
    calls = looked.of("tool-calls")
    assert calls is not None
    assert {one.name: one.value for one in calls.measurements}["rows_with_calls"] == 40


def _dated(result: Result) -> bool:
    told = [one.message for one in result.findings if one.severity is not Severity.INFO]
    return bool(told) and all(one.startswith(DATED) for one in told)
