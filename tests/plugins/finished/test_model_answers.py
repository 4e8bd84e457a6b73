"""Answers to gold questions: what is asked and asked again, how answers end, what is kept, who is down."""

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.finished import model_answers as module
from ftcheck_plugins.finished.endpoint import HttpEndpoint
from ftcheck_plugins.finished.generation_processes import Died, Spec
from ftcheck_plugins.guard.flow import ONLY

from ftcheck import GoldSet, Job
from ftcheck.inputs.container import Run
from ftcheck.inputs.endpoint import Endpoint, Reply
from ftcheck.inputs.finished_run import Generation, Generations, RunArtifacts
from ftcheck.inputs.model import ModelConfig
from ftcheck.testing import (
    gold,
    job,
    machine,
    model_config,
    output_schema,
    run_artifacts,
    serving_side,
    tokenizer,
)
from tests.plugins.guard.backend import Model, serving

SCHEMA = output_schema({"type": "object", "required": ["team"]})
GOOD, BROKEN = '{"team": "print"}', '{"team": '
STOP, TURN, OTHER = 1_000_000, 1_000_003, 1_000_004
"""Marks of the made-up tokenizer: its EOS, what its template ends a turn with here, a special token."""


class Asked:
    """In place of the process: remembers what it was asked and answers what it was told to."""

    def __init__(self, *rounds: Sequence[Mapping[str, Any]]) -> None:
        self.rounds = list(rounds)
        self.asked: list[dict[str, Any]] = []

    def of(self, spec: Spec) -> "Asked":
        return self

    def answer(self, prompts: Any, **settings: Any) -> Any:
        self.asked.append({"prompts": prompts, **settings})
        settings["progress"](len(prompts))
        if not self.rounds:
            raise Died("out of memory")
        return self.rounds.pop(0)


def said(text: str, stop: int | None = STOP) -> dict[str, Any]:
    ids = tokenizer().encode(text)
    return {"ids": ids if stop is None else [*ids, stop], "ended": stop is not None}


def asking(
    folder: Path,
    processes: Any,
    questions: GoldSet | None = None,
    *,
    schema: Any = None,
    endpoint: Endpoint | None = None,
    of: Job | None = None,
    model: ModelConfig | None = None,
    cache: bool = False,
    name: str = "generations",
    artifacts: RunArtifacts | None = None,
) -> Generations:
    folder.mkdir(exist_ok=True)
    side = serving_side(tokenizer(stop_ids=frozenset({STOP, TURN})))
    given = {
        "job": of or job(serving={"max_new_tokens": 8}),
        "run": Run(folder, cache=cache),
        "run_artifacts": artifacts or run_artifacts(),
        "gold": questions or gold(("question one", "a"), ("question two is longer", "b")),
        "serving": side,
        "model": model or model_config(),
        "machine": machine(),
        "output_schema": schema,
        "endpoint": endpoint,
        "processes": processes,
    }
    loader = getattr(module, name)
    made: Generations = loader.open(*(given[need] for need in loader.needs))
    return made


def test_the_prompts_go_as_they_are_served_with_the_cap_and_every_stop(tmp_path: Path) -> None:
    asked = Asked([said("yes"), said("no")])
    questions = gold(("one", "a"), ("two", "b"), system_prompt="Be brief.")

    made = asking(tmp_path, asked, questions, model=model_config(generation={"eos_token_id": [7, 8]}))

    [request] = asked.asked
    assert request["prompts"] == [item.prompt_ids for item in questions.items]
    assert (request["cap"], request["batch"], request["adapter"]) == (8, 32, True)
    assert request["stops"] == [7, 8, STOP, TURN]
    assert [one.text for one in made.items] == ["yes", "no"]


def test_how_an_answer_ends_is_told_apart(tmp_path: Path) -> None:
    special = {"ids": [*tokenizer().encode("ok"), OTHER, STOP], "ended": True}
    questions = gold(*((f"q {n}", "a") for n in range(4)))
    rounds = [said("yes"), said("yes", TURN), said("yesyesye", None), special]

    made = asking(tmp_path, Asked(rounds), questions).items

    assert [(one.finish, one.tokens) for one in made] == [
        ("stop", 4),
        ("template", 4),
        ("length", 8),
        ("stop", 4),
    ]
    assert made[3].text == "ok"


def test_a_stop_text_of_the_requests_ends_an_answer(tmp_path: Path) -> None:
    stopping = job(serving={"max_new_tokens": 8, "stop": ("\n", "END")})
    [one] = asking(tmp_path, Asked([said("yes\nand no")]), gold(("q", "yes")), of=stopping).items
    assert (one.text, one.tokens, one.finish) == ("yes", 4, "stop")


def test_a_broken_answer_is_asked_again_in_the_guards_words(tmp_path: Path) -> None:
    asked = Asked([said(GOOD), said(BROKEN)], [said(GOOD)])

    made = asking(tmp_path, asked, schema=SCHEMA)

    assert [one.again and one.again.text for one in made.items] == [None, GOOD]
    [again] = asked.asked[1]["prompts"]
    text = tokenizer().show(again)
    assert "question two is longer" in text
    assert ONLY in text
    assert "not JSON" in text


def test_the_base_alone_answers_without_its_adapter_and_is_not_asked_again(tmp_path: Path) -> None:
    asked = Asked([said(BROKEN), said(BROKEN)])
    made = asking(tmp_path, asked, schema=SCHEMA, name="base_generations")
    assert asked.asked[0]["adapter"] is False
    assert [one.again for one in made.items] == [None, None]


def test_answers_are_kept_by_content_and_a_changed_adapter_or_prompt_asks_again(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    base = job(model={"name": str(samples / "models" / "mapper-tiny")}, serving={"max_new_tokens": 8})
    first = asking(tmp_path / "a", Asked([said("yes"), said("no")]), of=base, cache=True)

    assert asking(tmp_path / "b", Asked(), of=base, cache=True) == first
    longer = replace(base, serving=replace(base.serving, max_new_tokens=9))
    for other in ({"of": longer}, {"of": base, "questions": gold(("else", "a"))}):
        assert asking(tmp_path / "c", Asked(), cache=True, **other).problem is not None
    assert asking(tmp_path / "d", Asked(), of=base, cache=False).problem is not None


def test_a_base_with_one_other_byte_is_asked_again_whatever_its_size_and_time_say(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    shutil.copytree(samples / "models" / "mapper-tiny", model)
    of = job(model={"name": str(model)}, serving={"max_new_tokens": 8})
    asking(tmp_path / "a", Asked([said("yes"), said("no")]), of=of, cache=True)
    weights = model / "model.safetensors"
    was, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(was.st_atime_ns, was.st_mtime_ns))
    module._weights.cache_clear()  # another run is another process

    assert asking(tmp_path / "b", Asked(), of=of, cache=True).problem is not None


def test_an_adapter_that_cannot_be_digested_is_asked_and_not_kept(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    of = job(model={"name": str(samples / "models" / "mapper-tiny")}, serving={"max_new_tokens": 8})
    asked = Asked([said("yes"), said("no")])

    asking(tmp_path, asked, of=of, cache=True, artifacts=replace(run_artifacts(), digest=None))

    assert asked.asked[0]["adapter"] is True
    assert asking(
        tmp_path, Asked(), of=of, cache=True, artifacts=replace(run_artifacts(), digest=None)
    ).problem


def test_a_process_that_dies_is_a_problem_with_its_last_words(tmp_path: Path) -> None:
    assert asking(tmp_path, Asked()).problem == "the model failed to answer: out of memory"


class Replies:
    """An endpoint that gives these replies, over and over."""

    closed: str | None = None

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.count = replies, 0

    def ask(self, *given: Any) -> Reply:
        self.count += 1
        return self.replies[(self.count - 1) % len(self.replies)]

    def logged(self, seconds: float) -> str | None:
        return None


def test_a_served_endpoint_is_asked_as_users_ask_it(tmp_path: Path) -> None:
    server = Model(answer=GOOD)
    asked = job(serving={"max_new_tokens": 8, "endpoint_model": "prod"})
    with serving(server) as url:
        made = asking(
            tmp_path,
            None,
            gold(("one", "a"), system_prompt="Be brief."),
            of=asked,
            endpoint=HttpEndpoint(url),
        )

    assert made.items == (Generation(GOOD, 9, "stop"),)
    [request] = server.requests
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("prod", 8, 0)
    assert [turn["role"] for turn in request["messages"]] == ["system", "user"]


def test_an_endpoint_that_is_down_is_a_problem_and_is_not_asked_for_each_question(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = asking(tmp_path, None, endpoint=HttpEndpoint(f"http://127.0.0.1:{port}"))
    assert made.problem == "serving.endpoint returned no answer: connection refused"

    dead = Replies(Reply(None, trouble="no answer within 60 s"))
    many = gold(*((f"question {n}", "a") for n in range(200)))
    assert asking(tmp_path, None, many, endpoint=dead).problem is not None
    assert dead.count < 20


def test_an_endpoint_that_answers_nonsense_now_and_then_is_told_by_its_answers(tmp_path: Path) -> None:
    nonsense = Reply(None, trouble="the response is not a chat completion")
    busy = Reply(503)
    mixed = Replies(Reply(200, "yes", "stop", 3, 2), nonsense, busy)
    made = asking(tmp_path, None, gold(*((f"q {n}", "a") for n in range(3))), endpoint=mixed)
    assert sorted(str(one.trouble) for one in made.items) == ["HTTP 503", "None", str(nonsense.trouble)]


def test_an_endpoint_that_is_not_asked_offline_says_so(tmp_path: Path) -> None:
    closed = Replies(Reply(200, "yes"))
    closed.closed = "--offline is set, and the endpoint is not on this machine"
    made = asking(tmp_path, None, endpoint=closed)
    assert made.problem == f"serving.endpoint was not queried: {closed.closed}"
