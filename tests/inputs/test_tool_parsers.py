"""The interpreter of tool-call formats, and the real templates with the parser of their family."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.inputs import call_texts, tool_parsers
from ftcheck.inputs.tool_parsers import FunctionCall, Unreadable
from tests.places import DATA

ROOM = FunctionCall("find_room", {"city": "Bonn", "beds": 2, "quiet": True})
TOOLS = call_texts.PROBE_TOOLS
ARGUMENTS = '{"city": "Bonn", "beds": 2, "quiet": true}'
OBJECT = '{"name": "find_room", "arguments": ' + ARGUMENTS + "}"
PARAMETERS = (
    "<parameter=city>\nBonn\n</parameter>\n<parameter=beds>\n2\n</parameter>\n"
    "<parameter=quiet>\nTrue\n</parameter>"
)
CALLS = {
    "hermes": f"I look.<tool_call>\n{OBJECT}\n</tool_call>",
    "granite": f"<|tool_call|>[{OBJECT}]",
    "jamba": f" <tool_calls>[{OBJECT}]</tool_calls>",
    "mistral": f"[TOOL_CALLS] [{OBJECT}]",
    "mistral-v11": f"[TOOL_CALLS]find_room[ARGS]{ARGUMENTS}",
    "llama3_json": f"<|python_tag|>{OBJECT}",
    "internlm": f"<|action_start|><|plugin|>{OBJECT}<|action_end|>",
    "phi4_mini_json": f"functools[{OBJECT}]",
    "pythonic": "[find_room(city='Bonn', beds=2, quiet=True)]",
    "olmo3": "<function_calls>\nfind_room(city='Bonn', beds=2, quiet=true)\n</function_calls>",
    "qwen3_coder": f"<tool_call>\n<function=find_room>\n{PARAMETERS}\n</function>\n</tool_call>",
    "glm45": "<tool_call>find_room\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n"
    "<arg_key>beds</arg_key><arg_value>2</arg_value><arg_key>quiet</arg_key><arg_value>true</arg_value></tool_call>",
    "openai": "<|channel|>analysis<|message|>So.<|end|><|start|>assistant to=functions.find_room"
    f"<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>",
    "gemma4": '<|tool_call>call:find_room{beds:2,city:<|"|>Bonn<|"|>,quiet:true}<tool_call|>',
    "apertus": '<|tools_prefix|>[{"find_room": ' + ARGUMENTS + "}]<|tools_suffix|>",
}


@pytest.mark.parametrize("name", CALLS)
def test_each_format_reads_its_calls(name: str) -> None:
    [call] = tool_parsers.read(tool_parsers.formats()[name], CALLS[name], TOOLS)

    assert tool_parsers.same_call(call, ROOM)


@pytest.mark.parametrize("name", tool_parsers.formats())
def test_a_plain_answer_is_no_call_and_every_pattern_is_one(name: str) -> None:
    form = tool_parsers.formats()[name]

    assert tool_parsers.read(form, "There are rooms in Bonn.", TOOLS) == ()
    assert {"body"} <= set(re.compile(form.call).groupindex)
    assert form.source


def test_every_parser_of_the_table_has_a_format() -> None:
    engines = tables.load("tool_parsers")["engines"]

    assert {form for one in engines.values() for form in one["parsers"].values()} <= set(
        tool_parsers.formats()
    )


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("hermes", '<tool_call>{"name": "f", "parameters": {}}</tool_call>', "no key 'arguments'"),
        ("hermes", '<tool_call>{"name": "f", </tool_call>', "not valid JSON"),
        ("hermes", f"<tool_call>{OBJECT} and more</tool_call>", "text stands behind"),
        ("jamba", f"<tool_calls>{OBJECT}</tool_calls>", "not a JSON list"),
        ("pythonic", "[find_room('Bonn')]", "named arguments"),
        ("pythonic", "[find_room(city=town())]", "not a literal"),
        ("phi4_mini_json", 'functools[{"name": "f", "arguments": {"a": [1]}}]', "not valid JSON"),
    ],
)
def test_broken_calls_are_named_without_their_content(name: str, text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(why)) as error:
        tool_parsers.read(tool_parsers.formats()[name], text)
    assert "Bonn" not in str(error.value)


def test_arguments_as_text_stay_text_unless_the_parser_passes_them_on() -> None:
    text = '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>'
    hermes, granite = (tool_parsers.formats()[name] for name in ("hermes", "granite4"))

    assert tool_parsers.read(hermes, text)[0].arguments == '{"a": 1}'
    assert tool_parsers.read(granite, text)[0].arguments == {"a": 1}


def test_parallel_calls_are_the_same_in_any_order_and_counted() -> None:
    one, other = FunctionCall("f", {"a": 1}), FunctionCall("f", {"a": 2})

    assert tool_parsers.same_calls([one, other], [other, one])
    assert not tool_parsers.same_calls([one, one], [one, other])
    assert not tool_parsers.same_calls([one], [one, one])
    assert tool_parsers.same_call(FunctionCall("f", {"a": 1, "b": 2}), FunctionCall("f", {"b": 2.0, "a": 1}))
    assert not tool_parsers.same_call(FunctionCall("f", {"a": True}), FunctionCall("f", {"a": 1}))


def test_a_parser_is_looked_up_by_the_engines_name_and_by_the_tokenizer() -> None:
    def found(parser: str, engine: str | None, token: str = "") -> str | None:
        form = tool_parsers.format_of(parser, engine, lambda one: one == token)
        return None if form is None else form.id

    assert found("qwen25", "sglang") == "qwen25"
    assert found("qwen25", "vllm") is None
    assert found("hermes", None) == "hermes"
    assert found("mistral", "vllm", "[ARGS]") == "mistral-v11"
    assert tool_parsers.parsers_of("vllm", tool_parsers.formats()["mistral-v11"]) == ["mistral"]


# --- real templates ---------------------------------------------------------------------------------------

FAMILIES = {
    "axolotl/deepseek_v3": "deepseek_v3",
    "axolotl/exaone4": "hermes",
    "axolotl/gemma4": "gemma4",
    "axolotl/gemma4_unified": "gemma4",
    "axolotl/jamba": "jamba",
    "axolotl/llama3_2_vision": "llama3_json",
    "axolotl/llama4": "llama4_json",
    "axolotl/mistral_v2v3": "mistral",
    "axolotl/mistral_v3_tekken": "mistral",
    "axolotl/qwen3": "hermes",
    "axolotl/qwen_25": "hermes",
    "llama.cpp/Apertus-8B-Instruct": "apertus",
    "llama.cpp/ByteDance-Seed-OSS": "seed_oss",
    "llama.cpp/GLM-4.6": "glm45",
    "llama.cpp/GLM-4.7-Flash": "glm47",
    "llama.cpp/Mistral-Small-3.2-24B-Instruct-2506": "mistral",
    "llama.cpp/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "qwen3_coder",
    "llama.cpp/NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "hermes",
    "llama.cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "hermes",
    "llama.cpp/Qwen-QwQ-32B": "hermes",
    "llama.cpp/Qwen-Qwen2.5-7B-Instruct": "hermes",
    "llama.cpp/Qwen-Qwen3-0.6B": "hermes",
    "llama.cpp/Qwen3-Coder": "qwen3_coder",
    "llama.cpp/Qwen3.5-4B": "qwen3_coder",
    "llama.cpp/deepseek-ai-DeepSeek-V3.1": "deepseek_v31",
    "llama.cpp/deepseek-ai-DeepSeek-V3.2": "deepseek_v32",
    "llama.cpp/google-gemma-4-31B-it": "gemma4",
    "llama.cpp/meta-llama-Llama-3.1-8B-Instruct": "llama3_json",
    "llama.cpp/meta-llama-Llama-3.2-3B-Instruct": "llama3_json",
    "llama.cpp/meta-llama-Llama-3.3-70B-Instruct": "llama3_json",
    "llama.cpp/mistralai-Ministral-3-14B-Reasoning-2512": "mistral",
    "llama.cpp/mistralai-Mistral-Nemo-Instruct-2407": "mistral",
    "llama.cpp/moonshotai-Kimi-K2": "kimi_k2",
    "llama.cpp/openai-gpt-oss-120b": "openai",
    "llama.cpp/unsloth-mistral-Devstral-Small-2507": "mistral",
    "mistral-common/v3": "mistral",
    "mistral-common/v11": "mistral",
    "mistral-common/v13": "mistral",
    "trl/trl/chat_templates/deepseekv3": "deepseek_v3",
    "trl/trl/chat_templates/glm4moe": "glm45",
    "trl/trl/chat_templates/gptoss": "openai",
    "trl/trl/chat_templates/lfm2_2_5": "lfm2",
    "trl/trl/chat_templates/llama3_1": "llama3_json",
    "trl/trl/chat_templates/nemotron_3_nano": "qwen3_coder",
    "trl/trl/chat_templates/qwen2_5": "hermes",
    "trl/trl/chat_templates/qwen3": "hermes",
    "trl/trl/chat_templates/qwen3_6": "qwen3_coder",
    "trl/trl/chat_templates/qwen3_vl": "hermes",
}
"""Real templates that render calls, and the parser that vLLM's documentation names for their family."""
MARK = re.compile(
    r"<\|[^|<>\s'{}]+\|>|<｜[^｜<>\s]+｜>|\[/?[A-Z_]{3,}\]|<\|\"\|>|<\|tool_call>|<tool_call\|>|</?tool_calls?>"
)


@pytest.fixture(scope="module")
def tokenizer_with() -> Callable[[Path], Any]:
    """Qwen3's tokenizer with a template, and with the marks of all templates as special tokens."""
    transformers = pytest.importorskip("transformers")
    from ftcheck_plugins.model.tokenizer import ChatTokenizer

    backend = transformers.AutoTokenizer.from_pretrained(DATA / "tokenizers" / "Qwen3")
    texts = [(DATA / "templates" / f"{name}.jinja").read_text(encoding="utf-8") for name in FAMILIES]
    marks = sorted({mark for text in texts for mark in MARK.findall(text)} - {"[ARGS]"})
    backend.add_special_tokens({"additional_special_tokens": marks})

    def made(path: Path) -> ChatTokenizer:
        backend.chat_template = path.read_text(encoding="utf-8")
        if "[ARGS]" in str(backend.chat_template):
            backend.add_special_tokens({"additional_special_tokens": [*marks, "[ARGS]"]})
        return ChatTokenizer(backend, "tokenizer")

    return made


@pytest.mark.realdata
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_real_template_is_read_by_the_parser_of_its_family(
    name: str, tokenizer_with: Callable[[Path], Any]
) -> None:
    path = DATA / "templates" / f"{name}.jinja"
    tokenizer = tokenizer_with(path)

    def render(messages: Any, prompt: bool, tools: Any) -> str:
        return str(tokenizer.render(messages, prompt=prompt, tools=tools))

    newer = "[ARGS]" in str(tokenizer.chat_template)
    form = tool_parsers.format_of(FAMILIES[name], "vllm", lambda token: newer and token == "[ARGS]")

    assert form is not None
    assert form in call_texts.written_by(tokenizer, render)
    assert not [one for one in form.tokens if not call_texts.has_token(tokenizer, one)]
