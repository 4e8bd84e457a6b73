import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import tokenizer as tokenizers
from ftcheck_plugins.reading import gold as plugin

from ftcheck.errors import InputError
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.tokenizer import ServingSide
from ftcheck.inputs.tool_parsers import FunctionCall
from ftcheck.settings import Data, Gold, Job, Model, Serving
from ftcheck.testing import job, serving_side, tokenizer


def opened(
    path: Path,
    content: str | list[Any],
    *,
    serving: ServingSide | None = None,
    prompt: str | None = None,
    **keys: str,
) -> GoldSet:
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
    stated = job(data={"gold": {"path": str(path), **keys}}, serving={"system_prompt": prompt})
    found: GoldSet = plugin.gold.open(stated, serving or serving_side())
    return found


def test_a_job_without_gold_has_none() -> None:
    assert plugin.gold.open(job(), serving_side()) is None


def test_items_are_rendered_and_counted_as_the_server_will(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"

    found = opened(path, [{"id": "a", "input": "who?", "expected": {"team": "hé"}}], prompt="JSON only.")

    [item] = found.items
    assert item.prompt == "<|system|>JSON only.<|end|><|user|>who?<|end|><|assistant|>"
    assert item.prompt_ids == tuple(tokenizer().encode(item.prompt))
    assert item.answer == '{"team": "hé"}'
    assert item.answer_tokens == len('{"team": "hé"}') + 1
    assert (item.id, str(item.at), found.system_prompt) == ("a", f"{path}:2:1", "JSON only.")


def test_without_a_system_prompt_none_is_added(tmp_path: Path) -> None:
    [item] = opened(tmp_path / "g.jsonl", '{"input": "who?", "expected": "me"}\n').items

    assert item.prompt == "<|user|>who?<|end|><|assistant|>"
    assert (item.id, item.answer, item.answer_tokens) == ("1", "me", 3)


def test_messages_keep_their_own_system_prompt(tmp_path: Path) -> None:
    user = {"role": "user", "content": "who?"}
    rows = [
        {"input": [{"role": "system", "content": "Mine."}, user], "expected": "x"},
        {"input": [user], "expected": "y"},
    ]

    first, second = opened(tmp_path / "g.json", rows, prompt="Theirs.").items

    assert first.prompt.startswith("<|system|>Mine.<|end|><|user|>")
    assert second.prompt.startswith("<|system|>Theirs.<|end|><|user|>")


def test_the_keys_are_those_that_the_policy_names(tmp_path: Path) -> None:
    [item] = opened(tmp_path / "g.json", [{"q": "who?", "a": 3}], input="q", expected="a").items

    assert (item.expected, item.answer) == (3, "3")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "who?"}, "has no key 'expected'; it has the key input"),
        ({"expected": "x"}, "has no key 'input'"),
        ({"input": "who?", "expected": None}, "'expected' is empty"),
        ({"input": "who?", "expected": " "}, "'expected' is empty"),
        ({"input": "", "expected": "x"}, "'input' is empty"),
        ({"input": 3, "expected": "x"}, "'input' must be a text or a list of messages"),
        ({"input": [{"role": "assistant", "content": "a"}], "expected": "x"}, "'input' ends with an answer"),
        ("text", "a row must be a JSON object"),
    ],
)
def test_an_item_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    found = opened(tmp_path / "g.json", [{"input": "who?", "expected": "me"}, row])

    [(place, trouble)] = found.row_errors
    assert len(found.items) == 1
    assert message in trouble.message
    assert (place.path, place.row) == (str(tmp_path / "g.json"), 2)
    assert place.line is not None
    assert place.line > 2


def test_a_template_that_raises_is_told_with_its_line(tmp_path: Path) -> None:
    class Strict:
        def render(self, *args: Any, **switches: Any) -> str:
            raise InputError("the chat template raised TemplateError: no system role")

    side = ServingSide(tokenizer=Strict(), same=False)  # type: ignore[arg-type]
    found = opened(tmp_path / "g.jsonl", '{"input": "who?", "expected": "me"}\n', serving=side)

    assert found.row_errors[0][1].code == "template"


def test_a_broken_line_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    found = opened(tmp_path / "g.jsonl", '{"input": "a", "expected": "b"}\n{"input"\n')

    [(place, trouble)] = found.row_errors
    assert (len(found.items), place.line, trouble.code) == (1, 2, "json")


def test_a_broken_array_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"golden\.json:3:11: not valid JSON: expecting value") as caught:
        opened(tmp_path / "golden.json", '[\n{"input": "a", "expected": "b"},\n{"input": }]')

    [problem] = caught.value.problems
    assert (problem.path, problem.yaml_path) == ("policy.yaml", "jobs.job.data.gold.path")


@pytest.mark.parametrize("more", ["[%s, %s]", "garbage", "]", "{}"])
def test_what_stands_behind_the_array_is_not_dropped_in_silence(tmp_path: Path, more: str) -> None:
    item = '{"input": "a", "expected": "b"}'
    text = f"[{item}, {item}]\n" + more.replace("%s", item)

    with pytest.raises(
        InputError, match=r"golden\.json:2:1: not valid JSON: more text after the end of the array"
    ):
        opened(tmp_path / "golden.json", text)


def test_one_object_over_lines_is_one_item(tmp_path: Path) -> None:
    text = json.dumps({"input": "a", "expected": {"b": [1]}}, indent=2)

    assert len(opened(tmp_path / "golden.json", text).items) == 1


def test_a_file_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    stated = job(data={"gold": {"path": str(tmp_path / "absent.json")}})

    with pytest.raises(InputError, match=r"data\.gold of job job: .*absent\.json: no such file"):
        plugin.gold.open(stated, serving_side())


def test_another_kind_of_file_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a gold set is a"):
        opened(tmp_path / "g.csv", "input,expected\n")


@pytest.mark.realdata
def test_real_gold_sets_are_read_whole_with_a_real_tokenizer(realdata: Path, tmp_path: Path) -> None:
    golden = realdata / "jobs" / "mapper" / "golden.json"
    stated = Job(
        name="mapper",
        model=Model(name=str(realdata / "tokenizers" / "llama-3-instruct")),
        data=Data(gold=Gold(path=str(golden))),
        serving=Serving(system_prompt="Map the request to one line of JSON with the keys intent and slots."),
    )
    loaders = {one.name: one for one in (plugin.gold, tokenizers.tokenizer, tokenizers.serving)}

    found = Inputs(loaders, {"run": Run(tmp_path)}, stated).get("gold")

    assert len(found.items) == len(json.loads(golden.read_text(encoding="utf-8")))
    assert found.row_errors == ()
    assert found.items[0].prompt.startswith("<|begin_of_text|><|start_header_id|>system")
    assert max(item.answer_tokens for item in found.items) < 200


def test_the_shipped_gold_sets_are_read_whole(samples: Path, tmp_path: Path) -> None:
    for name in ("mapper", "analyst"):
        golden, model = samples / name / "golden.json", samples / "models" / f"{name}-tiny"
        if not golden.is_file() or not (model / "tokenizer.json").is_file():
            pytest.skip("the samples are not made yet")
        stated = Job(name=name, model=Model(name=str(model)), data=Data(gold=Gold(path=str(golden))))
        loaders = {one.name: one for one in (plugin.gold, tokenizers.tokenizer, tokenizers.serving)}

        found = Inputs(loaders, {"run": Run(tmp_path)}, stated).get("gold")

        assert found.items
        assert found.row_errors == ()


TOOLS = [{"type": "function", "function": {"name": "order", "parameters": {"type": "object"}}}]
WRAPPED = {"id": "call12345", "type": "function", "function": {"name": "order", "arguments": {"item": "ink"}}}


@pytest.mark.parametrize(
    "expected",
    [
        {"tool_calls": [WRAPPED]},
        [WRAPPED],
        {"name": "order", "arguments": {"item": "ink"}},
        [{"name": "order", "arguments": '{"item": "ink"}'}],
    ],
)
def test_an_expected_answer_may_be_calls_of_the_items_tools(tmp_path: Path, expected: Any) -> None:
    side = serving_side(tokenizer(call="<tool_call>%s</tool_call>"))

    found = opened(
        tmp_path / "g.json", [{"input": "ink?", "expected": expected, "tools": TOOLS}], serving=side
    )

    [item] = found.items
    assert item.calls == (FunctionCall("order", {"item": "ink"}),)
    assert item.tools == TOOLS
    assert found.call_format == "hermes"
    assert item.answer.startswith('<tool_call>{"name": "order"')
    assert item.answer_tokens == len(item.answer) + 1


def test_json_that_only_looks_like_a_call_stays_json_where_no_tools_are_offered(tmp_path: Path) -> None:
    rows = [{"input": "ink?", "expected": {"name": "order", "arguments": {"item": "ink"}}}]

    found = opened(tmp_path / "g.json", rows)

    assert (found.items[0].calls, found.call_format) == ((), None)


def test_expected_calls_with_broken_arguments_cannot_be_used(tmp_path: Path) -> None:
    call = {"function": {"name": "order", "arguments": '{"item": '}}

    found = opened(tmp_path / "g.json", [{"input": "ink?", "expected": {"tool_calls": [call]}}])

    [(_, trouble)] = found.row_errors
    assert trouble.message == "'expected' has arguments that are not valid JSON"


def test_the_declared_parser_says_how_calls_are_read(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(json.dumps([{"input": "?", "expected": [WRAPPED]}]), encoding="utf-8")
    stated = job(data={"gold": {"path": str(path)}}, serving={"engine": "vllm", "tool_parser": "jamba"})

    found: GoldSet = plugin.gold.open(stated, serving_side())

    assert found.call_format == "jamba"
