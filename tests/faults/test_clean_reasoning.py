"""Healthy reasoning jobs on every real template that renders reasoning: nothing above `info` is said."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ftcheck import Severity, templates
from tests.faults.bench import Bench, Looked, Row, chat
from tests.faults.catalogue import token
from tests.places import DATA

pytestmark = pytest.mark.realdata

THOUGHT = "The number {n} of the ticket is even, so the desk in Perth takes it; restart number {n} first."
ANSWER = "Restart device {n}, then call the desk in Perth."
ASKED = "Ticket {n}: the printer in room {n} fails. What now?"
SPECIAL = re.compile(
    r"<\|[^<>|'\" ]{1,40}\|>|<｜[^<>'\" ]{1,40}｜>|\[/?[A-Z_]{3,20}\]"
    r"|<[a-z_]{2,20}\|>|<\|[a-z_]{2,20}>|<end_of_turn>"
)
SWITCHES: tuple[Mapping[str, Any], ...] = ({}, {"enable_thinking": True}, {"thinking": True})
CHECKS = (
    "chat-template",
    "evaluation-parity",
    "prompt-boundary",
    "reasoning",
    "stop-after-call",
    "template-parity",
)
"""The checks that look at reasoning or at prompts; how these templates end turns is another matter."""
MASKED = "templates/nemo-automodel/dllm_sft/diffusion_gemma_chat_template.jinja"
"""Its generation block begins behind the reasoning: the one template of which that is said, and rightly."""
DATED = "the template writes today's date"


@dataclass(frozen=True)
class Way:
    """A template, and how its rows say what they think: under a key or in tags, with which switches."""

    path: Path
    tags: tuple[str, str] | None
    switches: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For the test's name."""
        return str(self.path.relative_to(DATA))

    @property
    def text(self) -> str:
        """The template."""
        return self.path.read_text(encoding="utf-8")

    def answer(self, n: int) -> dict[str, Any]:
        """An answer with reasoning, in the template's own form."""
        thought, said = THOUGHT.format(n=n), ANSWER.format(n=n)
        if self.tags is None:
            return {"role": "assistant", "reasoning_content": thought, "content": said}
        return {"role": "assistant", "content": f"{self.tags[0]}\n{thought}\n{self.tags[1]}\n\n{said}"}


def _rendered(text: str, turns: list[dict[str, Any]], **switches: Any) -> str | None:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        made = render_jinja_template(
            conversations=[turns], chat_template=text, bos_token="<s>", eos_token="</s>", **switches
        )
    except Exception:
        return None
    return str(made[0][0])


def _asked(n: int) -> dict[str, Any]:
    return {"role": "user", "content": ASKED.format(n=n)}


@cache
def ways() -> tuple[Way, ...]:
    """Every distinct template that keeps a row's reasoning behind the prompt that it asks with."""
    return tuple(_ways())


def _ways() -> Iterator[Way]:
    seen: set[str] = set()
    folders = (DATA / "templates", DATA / "tokenizers")
    for path in sorted(one for folder in folders for one in folder.rglob("*.jinja")):
        text = path.read_text(encoding="utf-8")
        if text in seen or not re.search("think|reason|thought", text, re.IGNORECASE):
            continue
        seen.add(text)
        found = _way(path, text)
        if found is not None:
            yield found


def _way(path: Path, text: str) -> Way | None:
    for tags in (None, ("<think>", "</think>")):
        if tags is not None and tags[0] not in text:
            continue
        for switches in SWITCHES:
            way = Way(path, tags, switches)
            whole = _rendered(text, [_asked(7), way.answer(7)], **switches)
            prompt = _rendered(text, [_asked(7)], add_generation_prompt=True, **switches)
            if whole and prompt and THOUGHT.format(n=7) in whole and whole.startswith(prompt):
                return way
    return None


def job(way: Way, folder: Path, rows: list[Row]) -> Bench:
    """A job with these rows, its own template, and a tokenizer that knows the template's special tokens."""
    bench = chat(folder)
    bench.template = way.text
    known = {one["content"] for one in bench.tokenizer["added_tokens"]}
    first = number = len(bench.tokenizer["model"]["vocab"])
    marks = sorted({*SPECIAL.findall(way.text), "<think>", "</think>"} - known)
    for mark in marks:
        token(bench, mark, number)
        number += 1
    whole = _rendered(way.text, [_asked(7), way.answer(7)], **way.switches) or ""
    last = max(marks, key=whole.rfind)
    stops = [first + marks.index(last)] if whole.rstrip().endswith(last) else []
    bench.train, bench.evaluation, bench.gold = rows, [], []
    for key in ("data.eval", "data.gold", "serving.system_prompt", "serving.output_schema"):
        bench.drop(key)
    bench.drop("serving.schema_retries")
    bench.set("training.assistant_only_loss", templates.has_markers(way.text))
    bench.set("training.packing", False)
    bench.set("training.max_length", 4096)
    bench.set("serving.max_new_tokens", 512)
    bench.set("serving.chat_template_kwargs", dict(way.switches))
    bench.policy = {key: value for key, value in bench.policy.items() if key != "extends"}
    bench.policy["checks"] = {name: {} for name in CHECKS}
    bench.config["vocab_size"] = number
    bench.generation = {"eos_token_id": [5, 1, *stops]}
    return bench


def said(looked: Looked) -> list[str]:
    """What is said above `info`, but for today's date in prompts."""
    assert len(looked.results) == len(CHECKS)
    assert not [one for one in looked.results if one.outcome in ("errored", "timeout")]
    found = [finding for one in looked.results for finding in one.findings]
    loud = [one.message for one in found if one.severity is not Severity.INFO]
    return [one for one in loud if not one.startswith(DATED)]


def _switched(row: Row, way: Way) -> Row:
    return {**row, "chat_template_kwargs": dict(way.switches)} if way.switches else row


def test_there_are_at_least_30_templates_that_render_reasoning() -> None:
    assert len(ways()) >= 30


@pytest.mark.parametrize("way", ways(), ids=lambda way: way.name)
def test_rows_of_one_round_are_quiet(way: Way, tmp_path: Path) -> None:
    rows = [_switched({"messages": [_asked(n), way.answer(n)]}, way) for n in range(100, 124)]
    bench = job(way, tmp_path, rows)
    bench.write()
    looked = bench.look()
    told = said(looked)
    if way.name == MASKED:
        assert len(told) == 1
        assert told[0].startswith("the reasoning is rendered but not in the loss")
    else:
        assert told == []
    [measured] = [one for one in looked.results if one.check.rule == "reasoning"]
    assert {one.name: one.value for one in measured.measurements}["rows_with_reasoning"] == 24


@pytest.mark.parametrize("way", ways(), ids=lambda way: way.name)
def test_a_row_of_each_turn_is_quiet_whatever_the_template_does_with_history(
    way: Way, tmp_path: Path
) -> None:
    rows = [
        _switched(
            {"prompt": [_asked(n), way.answer(n), _asked(n + 50)], "completion": [way.answer(n + 50)]}, way
        )
        for n in range(100, 124)
    ]
    bench = job(way, tmp_path, rows)
    bench.set("training.assistant_only_loss", False)
    bench.write()
    assert said(bench.look()) == []
