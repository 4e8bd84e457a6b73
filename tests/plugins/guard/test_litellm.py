"""The whole of it: a real LiteLLM proxy, with and without the guard, in front of a small loopback server."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.finished.endpoint import endpoint
from ftcheck_plugins.guard import count, normalised, opened
from ftcheck_plugins.guard.export import configuration
from ftcheck_rules.serving.guardrails import guardrail
from ruamel.yaml import YAML

from ftcheck.inputs.container import Run
from ftcheck.inputs.tokenizer import ServingSide
from ftcheck.records import Severity
from ftcheck.runner.load import load
from ftcheck.settings import Job
from ftcheck.testing import Ran, inputs, model_config, prepared, run
from tests.cli.project import Project
from tests.places import CHECKOUT
from tests.plugins.guard.backend import (
    GOOD,
    Model,
    ask,
    proxy,
    serving,
)

pytest.importorskip("litellm.proxy.proxy_cli", reason="the extra [guard] is not installed")

pytestmark = pytest.mark.guard

POLICY = CHECKOUT / "policies" / "night_before.yaml"
LONG = "My laptop does not start, and I cannot log in. " * 60
CANARY = "heron-4711"


@dataclass
class Served:
    """The shipped jobs behind a proxy: `url` of the proxy, the model behind it, the logs."""

    url: str
    model: Model
    log: Path
    printed: Path
    jobs: dict[str, Job]

    def guardrail(self, job: str = "mapper", url: str | None = None, **serving: Any) -> Ran:
        """The rule, as `ftcheck run` runs it on a job whose endpoint this is."""
        stated = {f"jobs.{job}.serving.endpoint": url or self.url, f"jobs.{job}.serving.log_path": self.log}
        changed = {f"jobs.{job}.serving.{key}": value for key, value in serving.items()}
        settings = [f"{key}={value}" for key, value in {**stated, **changed}.items()]
        one = load(POLICY, settings).policy.jobs[job]
        guard = opened(one)
        opened_inputs = inputs(
            serving=ServingSide(guard.tokenizer, same=True, switches=guard.switches),
            output_schema=guard.schema,
        )
        return run(
            guardrail,
            job=one,
            model=model_config(context=2048),
            gold=None,
            prepared=prepared([50, 50], trained=[10, 10]),
            endpoint=endpoint.open(one, Run(self.log.parent, offline=True)),
            inputs=opened_inputs,
        )


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Model, str]]:
    """A folder, and a model that counts as the jobs' tokenizers do, behind a URL."""
    model = Model()
    with serving(model) as url:
        yield tmp_path_factory.mktemp("served"), model, url


def started(behind: tuple[Path, Model, str], name: str, *, guarded: bool) -> Iterator[Served]:
    folder, model, upstream = behind
    log, printed, file = (folder / f"{name}{suffix}" for suffix in (".log", ".out", ".yaml"))
    settings = [
        f"jobs.mapper.serving.log_path={log}",
        f"jobs.analyst.serving.log_path={log}",
        "jobs.analyst.serving.over_limit=chunk",
    ]
    jobs = dict(load(POLICY, settings).policy.jobs)
    guard = opened(jobs["mapper"])
    model.count = lambda messages, switches: count(guard, normalised(messages, None))
    made = YAML(typ="safe", pure=True).load(configuration(list(jobs.values()), upstream))
    made["router_settings"] = {"model_group_alias": {"alias": "mapper"}, "fallbacks": [{"dead": ["mapper"]}]}
    dead = {"model": "hosted_vllm/dead", "api_base": "http://127.0.0.1:9/v1"}
    made["model_list"].append({"model_name": "dead", "litellm_params": dead})
    if not guarded:
        del made["guardrails"]
    file.write_text(json.dumps(made), encoding="utf-8")
    with proxy(file, printed) as url:
        yield Served(url, model, log, printed, jobs)


@pytest.fixture(scope="module")
def served(behind: tuple[Path, Model, str]) -> Iterator[Served]:
    """The proxy that `ftcheck export litellm` configures."""
    yield from started(behind, "guarded", guarded=True)


@pytest.fixture(scope="module")
def bare(behind: tuple[Path, Model, str]) -> Iterator[Served]:
    """The same proxy with the guard taken out."""
    yield from started(behind, "bare", guarded=False)


@pytest.fixture(autouse=True)
def as_it_was(behind: tuple[Path, Model, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FTCHECK_ENDPOINT_KEY", "sk-loopback")
    model = behind[1]
    kept = {**vars(model)}
    model.requests.clear()
    yield
    vars(model).update(kept)


def test_an_input_within_the_limit_is_sent_with_the_system_prompt_and_the_cap(served: Served) -> None:
    reply = ask(served.url, "My phone is gone.", max_tokens=9_000)

    assert (reply.status, reply.text) == (200, GOOD)
    [sent] = served.model.requests
    assert sent["max_tokens"] == 48
    assert [one["role"] for one in sent["messages"]] == ["system", "user"]
    assert reply.headers["x-ftcheck-prompt-tokens"] == str(reply.body["usage"]["prompt_tokens"])


def test_an_input_over_the_limit_falls_back_to_rules_and_never_reaches_the_model(served: Served) -> None:
    reply = ask(served.url, LONG)

    assert json.loads(reply.text)["intent"] == "reset_password"
    assert reply.headers["x-ftcheck-decision"] == "rules"
    assert served.model.requests == []


def test_an_input_over_the_limit_is_cut_into_chunks_that_each_fit(served: Served) -> None:
    served.model.answer = "Verdict: approve"

    reply = ask(served.url, LONG, "analyst")

    assert reply.text == "\n".join(["Verdict: approve"] * len(served.model.requests))
    assert len(served.model.requests) == int(reply.headers["x-ftcheck-chunks"]) > 1
    guard = opened(served.jobs["analyst"])
    assert all(count(guard, tuple(one["messages"])) <= 512 for one in served.model.requests)


def test_a_broken_answer_is_asked_for_once_again_more_strictly(served: Served) -> None:
    reply = ask(served.url, "please break the schema")

    assert (reply.text, reply.headers["x-ftcheck-retries"]) == (GOOD, "1")
    assert len(served.model.requests) == 2
    assert "JSON Schema" in served.model.requests[1]["messages"][-1]["content"]


def test_an_answer_that_stays_broken_does_not_go_out(served: Served) -> None:
    served.model.stubborn = True

    for stream in (False, True):
        reply = ask(served.url, "please break the schema", stream=stream)

        assert reply.status == 502
        assert "violates its JSON Schema after 1 retry" in json.dumps(reply.body)
        assert "choir" not in json.dumps(reply.body)
    assert len(served.model.requests) == 4


def test_a_stream_with_a_schema_is_checked_before_its_first_piece(served: Served) -> None:
    reply = ask(served.url, "please break the schema", stream=True)

    assert reply.pieces == GOOD
    assert reply.headers["x-ftcheck-retries"] == "1"


def test_a_stream_without_a_schema_is_counted_and_capped(served: Served) -> None:
    reply = ask(served.url, "write long", "analyst", stream=True, max_tokens=9_000)

    assert served.model.requests[0]["max_tokens"] == 96
    assert len(reply.pieces.split()) == 96
    assert json.loads(served.log.read_text().splitlines()[-1])["stream"] is True


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"chat_template": "x"}, "changes the input that was counted"),
        ({"max_new_tokens": 900}, "changes the input that was counted"),
        ({"n": 3}, "several answers"),
        ({"extra_body": {"max_tokens": 900}}, "extra_body"),
        ({"max_tokens": "many"}, "whole number"),
        ({"model": "other", "fallbacks": ["mapper"]}, "fallback"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text"),
        ({"path": "responses", "input": "hi"}, "only /chat/completions"),
        ({"path": "completions", "prompt": "hi"}, "only /chat/completions"),
        ({"path": "messages", "max_tokens": 9}, "only /chat/completions"),
    ],
)
def test_a_way_past_the_count_is_refused(served: Served, more: dict[str, Any], words: str) -> None:
    reply = ask(served.url, "hi", **more)

    assert reply.status == 400
    assert words in json.dumps(reply.body)
    assert served.model.requests == []


@pytest.mark.parametrize("model", ["alias", "dead"])
def test_an_alias_or_a_fallback_of_the_router_does_not_lead_past_the_guard(
    served: Served, model: str
) -> None:
    reply = ask(served.url, LONG, model)

    assert reply.status >= 400
    assert served.model.requests == []


def test_no_request_switches_the_guard_off(served: Served) -> None:
    off: dict[str, Any] = {
        "guardrails": [],
        "metadata": {"user_api_key_metadata": {"disable_global_guardrails": True}},
    }

    assert ask(served.url, LONG, **off).headers["x-ftcheck-decision"] == "rules"


def test_a_server_that_does_not_keep_to_the_cap_is_refused(served: Served) -> None:
    served.model.obeys_cap = False

    assert "ignored max_tokens" in json.dumps(ask(served.url, "write long", "analyst").body)


def test_a_server_that_is_down_is_an_error_and_a_line_in_the_log(served: Served) -> None:
    served.model.fails = 503

    assert ask(served.url, "hi").status >= 500
    assert json.loads(served.log.read_text().splitlines()[-1])["reason"] == "upstream"


def test_neither_the_log_nor_what_the_proxy_prints_holds_a_word_of_anybody(served: Served) -> None:
    served.model.answer = f'{{"intent": "{CANARY}"}}'
    for text in (f"hi {CANARY}", f"break the schema {CANARY}", LONG + CANARY):
        for stream in (False, True):
            ask(served.url, text, stream=stream)
            ask(served.url, text, "analyst", stream=stream, metadata={"note": CANARY})

    assert CANARY not in served.log.read_text()
    assert CANARY not in served.printed.read_text()
    fields = set(json.loads(served.log.read_text().splitlines()[-1]))
    assert "prompt_tokens" in fields


def test_the_guardrail_rule_is_green_on_the_guarded_proxy(served: Served) -> None:
    ran = served.guardrail()

    assert ran.findings == ()
    assert ran.result.outcome == "passed"
    assert (ran.measured["probe_at_limit"], ran.measured["probe_over_limit"]) == (512, 513)
    assert (ran.measured["probe_retries"], ran.measured["probe_answer"]) == (1, 96)
    assert ran.measured["probe_log_lines"] == ran.measured["probes"] == 4


@pytest.mark.parametrize("action", ["chunk", "reject"])
def test_the_rule_goes_red_where_the_proxy_does_other_than_is_stated(served: Served, action: str) -> None:
    [finding] = served.guardrail(over_limit=action).findings

    assert finding.message.endswith("above max_input_tokens 512, got: HTTP 200, rules")


def test_the_rule_probes_a_job_that_is_cut_into_chunks_and_has_no_schema(served: Served) -> None:
    guard = opened(served.jobs["analyst"])
    served.model.count = lambda messages, switches: count(guard, normalised(messages, None))

    ran = served.guardrail("analyst", over_limit="chunk")

    assert ran.findings == ()
    assert ran.measured["probes"] == 3


def test_a_server_that_counts_with_another_tokenizer_is_a_warning(served: Served) -> None:
    """The model behind it counts as the mapper's tokenizer does."""
    [finding] = served.guardrail("analyst", over_limit="chunk").findings

    assert finding.severity is Severity.WARNING
    assert re.fullmatch(
        r"the server counts (?!512 )\d{3} tokens, the job's tokenizer counts 512", finding.message
    )


def test_without_the_guard_the_rule_goes_red_on_each_probe(bare: Served) -> None:
    bare.log.touch()

    ran = bare.guardrail()

    said = " | ".join(one.message for one in ran.findings)
    assert "the answer at the limit bypassed the guard" in said
    assert (
        "over_limit is rules, but an input of 513 tokens, above max_input_tokens 512, got: HTTP 200" in said
    )
    assert (
        "an answer that violates the schema is returned: $.intent: is none of the 12 allowed values" in said
    )
    assert "an answer has 192 tokens, max_new_tokens is 48" in said
    assert "the probes left no line in the log" in said
    assert "canary-" not in said
    assert ran.result.blocking


def test_ftcheck_run_probes_the_endpoint_of_the_policy_also_offline(
    served: Served, bare: Served, tmp_path: Path
) -> None:
    def check(one: Served) -> tuple[int, str]:
        one.log.touch()
        stated = {"endpoint": one.url, "log_path": one.log}
        sets = [part for key, it in stated.items() for part in ("--set", f"jobs.mapper.serving.{key}={it}")]
        ran = Project(tmp_path).call("run", str(POLICY), "--select", "mapper::guardrail", "--offline", *sets)
        return ran.code, ran.out + ran.err

    (green, well), (red, said) = check(served), check(bare)

    assert (green, red) == (0, 1), well + said
    assert "bypassed the guard" in said
    assert "sk-loopback" not in well + said
    assert "canary-" not in well + said


def test_a_proxy_that_logs_content_is_red(served: Served, tmp_path: Path) -> None:
    """The log that is named is another logger's, which writes what users say."""
    log = tmp_path / "content.log"
    log.touch()
    reply = served.model.reply

    def logging(body: dict[str, Any]) -> tuple[str, int, str]:
        with log.open("a") as stream:
            stream.write(json.dumps(body["messages"]) + "\n")
        return reply(body)

    served.model.reply = logging  # type: ignore[method-assign]

    [finding] = served.guardrail(log_path=log).findings

    assert finding.message == "the log contains user text: a word of the probes was found in it"
