"""The live probes against endpoints of our own making; `tests/guard/test_litellm.py` has a real proxy."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ftcheck_rules.serving.guard_probes import filled
from ftcheck_rules.serving.guardrails import guardrail

from ftcheck.inputs.endpoint import Reply
from ftcheck.inputs.tokenizer import Message
from ftcheck.records import Severity
from ftcheck.testing import (
    FakeTokenizer,
    Ran,
    inputs,
    job,
    model_config,
    output_schema,
    prepared,
    run,
    serving_side,
)

TEAM = {"type": "object", "required": ["team"], "properties": {"team": {"enum": ["hr", "it"]}}}
LIMIT, CAP, OVERHEAD = 200, 16, 3
GOOD = '{"team": "hr"}'
Answerer = Callable[["Fake", str, int], Reply]


@dataclass
class Fake:
    """An endpoint that does all it should, but for what `answers` says; `log` is what it logs."""

    answers: Answerer = lambda fake, text, cap: fake.well(text, cap)
    over: str = "reject"
    log: str | None = "a line\n"
    closed: str | None = None
    asked: list[str] = field(default_factory=list)

    def ask(self, model: str, messages: Sequence[Message], max_tokens: int, seconds: float) -> Reply:
        assert (model, seconds) == ("job", 60.0)
        text = str(messages[-1]["content"])
        self.asked.append(text)
        return self.answers(self, text, max_tokens)

    def well(self, text: str, cap: int) -> Reply:
        """As a good guard with a model that plays along."""
        tokens = len(text) + OVERHEAD
        guard = {"guard": "job", "decision": "pass", "prompt-tokens": str(tokens)}
        if tokens > LIMIT:
            return {
                "reject": Reply(400, refusal="over-limit"),
                "rules": Reply(200, GOOD, guard={**guard, "decision": "rules"}, completion_tokens=0),
                "chunk": Reply(200, GOOD, guard={**guard, "decision": "chunk"}, chunks=2),
            }[self.over]
        if "break the schema" in text:
            return Reply(200, GOOD, "stop", 2 * tokens, 8, guard, retries=1)
        if "write long" in text:
            return Reply(200, "on", "length", tokens, min(cap, CAP), guard)
        return Reply(200, GOOD, "stop", tokens, 4, guard)

    def logged(self, seconds: float) -> str | None:
        return self.log


def probed(fake: Any, *, schema: Any = TEAM, **serving: Any) -> Ran:
    declared: dict[str, Any] = {
        "max_input_tokens": LIMIT,
        "max_new_tokens": CAP,
        "over_limit": getattr(fake, "over", "reject"),
        "log": "token-counts",
        "output_schema": "schema.json" if schema else None,
        "schema_retries": 1,
    }
    held = output_schema(schema) if schema else None
    if schema is None:
        declared |= {"schema_retries": 0}
    return run(
        guardrail,
        job=job(serving={**declared, **serving}),
        model=model_config(context=512),
        gold=None,
        prepared=prepared([50, 50], trained=[10, 10]),
        endpoint=fake,
        inputs=inputs(serving=serving_side(), output_schema=held),
    )


def only(ran: Ran) -> tuple[Severity, str]:
    [finding] = ran.findings
    return finding.severity, finding.message


def when(marker: str, **changes: Any) -> Fake:
    """An endpoint that does well but for the probe that has the marker."""

    def answer(fake: Fake, text: str, cap: int) -> Reply:
        well = fake.well(text, cap)
        return replace(well, **changes) if marker in text else well

    return Fake(answer)


@pytest.mark.parametrize("over", ["reject", "rules", "chunk"])
def test_an_endpoint_that_does_all_it_should_passes(over: str) -> None:
    fake = Fake(over=over)

    ran = probed(fake)

    assert ran.findings == ()
    assert (ran.measured["probe_at_limit"], ran.measured["probe_over_limit"]) == (LIMIT, LIMIT + 1)
    assert (ran.measured["probe_retries"], ran.measured["probe_answer"], ran.measured["probes"]) == (
        1,
        CAP,
        4,
    )
    assert len(fake.asked) == 4


def test_without_a_schema_it_is_not_probed() -> None:
    ran = probed(Fake(), schema=None)

    assert ran.findings == ()
    assert ran.measured["probes"] == 3
    assert "probe_retries" not in ran.measured


@pytest.mark.parametrize(
    "why", ["connection refused", "no answer within 60 s", "the response is not a chat completion"]
)
def test_an_endpoint_that_is_down_slow_or_talks_nonsense_is_an_error_after_one_probe(why: str) -> None:
    fake = Fake(lambda fake, text, cap: Reply(None, trouble=why))

    ran = probed(fake)

    assert only(ran) == (Severity.ERROR, f"the endpoint cannot be probed: {why}")
    assert len(fake.asked) == ran.measured["probes"] == 1


@pytest.mark.parametrize("marker", ["break the schema", "write long"])
def test_an_endpoint_that_dies_on_the_way_is_an_error(marker: str) -> None:
    ran = probed(when(marker, status=None, trouble="no answer within 60 s", completion_tokens=None, text=""))

    assert ran.worst is Severity.ERROR
    assert "the endpoint cannot be probed: no answer within 60 s" in [one.message for one in ran.findings]


def test_an_input_at_the_limit_that_is_refused_is_an_error() -> None:
    ran = probed(when("only a length", status=401))

    assert (
        "an input of 200 tokens is rejected, although max_input_tokens is 200: HTTP 401"
        in only_messages(ran)[0]
    )


def only_messages(ran: Ran) -> list[str]:
    return [one.message for one in ran.findings]


def test_answers_that_came_past_the_guard_or_through_another_are_errors() -> None:
    past = probed(when("only a length", guard={}), over_limit=None)
    other = probed(when("only a length", guard={"guard": "analyst"}))

    assert "the answer at the limit bypassed the guard" in only_messages(past)
    assert "the answer at the limit came through the guard of job analyst" in only_messages(other)


def test_a_guard_that_counts_otherwise_is_an_error_and_a_server_that_does_a_warning() -> None:
    stale = {"guard": "job", "prompt-tokens": "190", "decision": "pass"}
    assert only(probed(when("a length", guard=stale), over_limit="reject"))[1] == (
        "the guard counts 190 tokens, the job's tokenizer counts 200"
    )

    severity, said = only(probed(when("a length", prompt_tokens=201)))
    assert (severity, said[:30]) == (Severity.WARNING, "the server counts 201 tokens, ")


@pytest.mark.parametrize("over", ["reject", "rules", "chunk"])
def test_an_input_over_the_limit_that_is_answered_like_any_other_is_an_error(over: str) -> None:
    def answer(fake: Fake, text: str, cap: int) -> Reply:
        well = fake.well(text, cap)
        plain = Reply(200, GOOD, guard={"guard": "job", "decision": "pass"})
        return plain if len(text) + OVERHEAD > LIMIT else well

    severity, said = only(probed(Fake(answer, over=over)))

    assert severity is Severity.ERROR
    assert said == (
        f"over_limit is {over}, but an input of 201 tokens, above max_input_tokens 200, got: HTTP 200, pass"
    )


def test_a_broken_answer_that_goes_out_is_an_error() -> None:
    ran = probed(when("break the schema", text='{"team": "law"}'))

    assert only_messages(ran)[0].startswith("an answer that violates the schema is returned")


def test_a_broken_answer_that_is_held_back_after_its_retry_passes() -> None:
    held = {"status": 502, "refusal": "schema", "text": "", "completion_tokens": 10}

    assert probed(when("break the schema", **held, retries=1)).findings == ()
    assert only(probed(when("break the schema", **held, retries=0)))[1] == (
        "an invalid answer is retried 0 times, schema_retries is 1"
    )


def test_a_model_that_does_not_break_the_schema_proves_nothing_and_the_rule_says_so() -> None:
    ran = probed(when("break the schema", retries=0))

    assert only(ran) == (
        Severity.INFO,
        "it is unknown whether an invalid answer is retried: the model returned a valid one",
    )
    assert ran.result.outcome == "passed"


def test_an_answer_over_the_cap_is_an_error() -> None:
    assert (
        only(probed(when("write long", completion_tokens=CAP + 1)))[1]
        == "an answer has 17 tokens, max_new_tokens is 16"
    )


def test_a_model_that_ends_before_the_cap_proves_nothing_and_the_rule_says_so() -> None:
    severity, said = only(probed(when("write long", completion_tokens=3, finish="stop")))

    assert (severity, said) == (
        Severity.INFO,
        "it is unknown whether answers end at max_new_tokens 16: the model's answer was shorter",
    )


def test_an_answer_without_its_count_of_tokens_is_an_error() -> None:
    assert "contains no completion_tokens" in only(probed(when("write long", completion_tokens=None)))[1]


def test_a_long_answer_that_the_schema_held_back_shows_the_cap_by_its_count() -> None:
    held = {"status": 502, "refusal": "schema", "retries": 1, "finish": None, "guard": {}}

    assert probed(when("write long", **held, completion_tokens=2 * CAP)).findings == ()
    assert probed(when("write long", **held, completion_tokens=2 * CAP + 1)).worst is Severity.ERROR


def test_a_planted_word_in_the_log_is_an_error_that_does_not_say_it() -> None:
    class Leaking(Fake):
        def logged(self, seconds: float) -> str | None:
            return "\n".join(self.asked)

    severity, said = only(probed(Leaking()))

    assert (severity, said) == (
        Severity.ERROR,
        "the log contains user text: a word of the probes was found in it",
    )


def test_a_log_that_did_not_grow_is_an_error() -> None:
    assert only(probed(Fake(log="")))[0] is Severity.ERROR


def test_a_log_that_cannot_be_read_is_an_error() -> None:
    class Gone(Fake):
        def logged(self, seconds: float) -> str | None:
            raise FileNotFoundError(2, "No such file or directory")

    assert only(probed(Gone()))[1] == "the log cannot be read: no such file or directory"


def test_without_a_log_to_look_into_the_rule_says_that_it_was_not_probed() -> None:
    severity, said = only(probed(Fake(log=None)))

    assert severity is Severity.INFO
    assert said == "it is unknown whether the log contains user text: serving.log_path is not set"


def test_an_endpoint_that_may_not_be_asked_is_said_and_not_asked() -> None:
    fake = Fake(closed="--offline is set, and the endpoint is not on this machine")

    assert only(probed(fake))[0] is Severity.INFO
    assert fake.asked == []


def test_the_planted_word_is_another_in_each_run() -> None:
    first, second = Fake(), Fake()
    probed(first)
    probed(second)

    words = [re.findall(r"canary-[0-9a-f]+", text) for text in (*first.asked, *second.asked)]
    assert len({word for [word] in words}) == 2


@pytest.mark.parametrize("limit", range(90, 130))
def test_probes_of_length_are_a_token_apart(limit: int) -> None:
    side = FakeTokenizer()

    at, over = filled("start", lambda text: len(side.encode(text)), limit)

    assert (len(side.encode(at)), len(side.encode(over))) == (limit, limit + 1)


def test_a_limit_below_the_probes_own_words_is_said() -> None:
    ran = probed(Fake(), max_input_tokens=5)

    assert ran.worst is Severity.ERROR
    assert (
        "the input limit cannot be probed: the limit is below the length of a probe's own text"
        in only_messages(ran)
    )
