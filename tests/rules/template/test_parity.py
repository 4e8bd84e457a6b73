import dataclasses
from typing import Any

import pytest
from ftcheck_rules.template.cases.parity import CASES
from ftcheck_rules.template.parity import template_parity
from ftcheck_rules.tokens.cases.tokens import locked_with

from ftcheck import InputError, Severity
from ftcheck.inputs.prepared import Sample
from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.testing import Case, FakeTokenizer, Ran, gold, inputs, job, run, sample, serving_side, tokenizer

TALK: tuple[Message, ...] = (
    {"role": "user", "content": "a secret question"},
    {"role": "assistant", "content": "a secret answer"},
)
RULES = {rule.id: rule for rule in (template_parity,)}


class Switching(FakeTokenizer):
    """Opens the answer otherwise when thinking is switched, as Qwen3's template does."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        text = super().render(messages, prompt=prompt)
        thinking = switches.get("enable_thinking")
        opened = {None: "", True: "<think>\n", False: "<think></think>"}[thinking]
        return text + (opened if prompt else "")


class Empty(Switching):
    """Puts an empty thinking block before the last answer of every row too."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        if prompt:
            return super().render(messages, prompt=prompt, **switches)
        *before, last = messages
        return super().render([*before, {**last, "content": "<think></think>" + last["content"]}])


class Refusing(FakeTokenizer):
    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        if any(message["role"] == "system" for message in messages):
            raise InputError("the chat template raised TemplateError: no system role")
        return super().render(messages, prompt=prompt)


class Swapped(FakeTokenizer):
    """Renders otherwise with the template that TRL swaps in."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        return ("<s>" if "chat_template" in switches else "") + super().render(messages, prompt=prompt)


def check(training: FakeTokenizer | None = None, serving: ServingSide | None = None, **changes: Any) -> Ran:
    side = training or tokenizer()
    made = changes.pop("job", job())
    given = {
        "job": made,
        "tokenizer": side,
        "serving": serving or serving_side(side),
        "sample": changes.get("sample") or sample(TALK, TALK, using=side),
        "lock": None,
        "inputs": inputs(made),
    }
    return run(template_parity, **{**given, **changes})


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def test_one_template_on_both_sides_passes_with_everything_counted() -> None:
    ran = check()

    assert not ran.findings
    assert ran.measured == {
        "probes": 8,
        "rows_compared": 2,
        "probes_different": 0,
        "rows_different": 0,
        "changing_with_date": 0,
    }
    assert ran.result.summary == "train = serve, 8 conversations, 2 rows"


def test_another_serving_template_is_an_error_at_the_template() -> None:
    other = job(serving={"chat_template": "other.jinja"})

    [finding] = check(serving=serving_side(opening="<|assistant|>\n"), job=other).findings

    assert finding.severity is Severity.ERROR
    assert finding.at == other.at("serving.chat_template")
    assert "2 of 2 rendered rows and 8 of 8 rendered probes" in finding.message
    assert finding.message.endswith(
        'probe "one turn", token 34: train (no further tokens) · serve ↵ [10] '
        "(tokens, then ids; ↵ is a line break)"
    )


def test_a_switch_that_opens_a_thinking_block_is_an_error_at_the_switches() -> None:
    side = Switching()
    asked = job(serving={"chat_template_kwargs": {"enable_thinking": True}})

    [finding] = check(
        side, ServingSide(side, same=True, switches={"enable_thinking": True}), job=asked
    ).findings

    assert finding.at == asked.at("serving.chat_template_kwargs")
    assert finding.message.startswith("serving opens a thinking block that no row has")


def test_an_empty_thinking_block_that_rows_have_too_is_no_difference() -> None:
    side, switches = Empty(), {"enable_thinking": False}
    other = Switching()

    assert check(side, ServingSide(side, same=True, switches=switches)).result.outcome == "passed"
    assert check(other, ServingSide(other, same=True, switches=switches)).result.outcome == "failed"


def test_a_server_that_does_not_open_the_answer_is_an_error_though_rows_begin_so() -> None:
    assert check(serving=serving_side(opening="")).worst is Severity.ERROR


def test_a_row_that_trains_with_the_same_switches_agrees() -> None:
    side, switches = Switching(), {"enable_thinking": False}
    one = dataclasses.replace(sample(TALK).rows[0], template_kwargs=switches)

    ran = check(side, ServingSide(side, same=True, switches=switches), sample=Sample((one,), 1))

    assert ran.measured["rows_different"] == 0
    assert ran.measured["probes_different"] == 0  # the built-in conversations set no switch


def test_a_conversation_that_only_one_side_can_render_is_an_error_not_a_crash() -> None:
    [finding] = check(serving=ServingSide(Refusing(), same=False)).findings
    assert finding.severity is Severity.ERROR
    assert (
        "serving cannot render it; the template's own message: the chat template raised TemplateError"
        in finding.message
    )


def test_a_conversation_that_no_side_can_render_is_no_difference() -> None:
    side = Refusing()
    assert check(side, ServingSide(side, same=True)).result.outcome == "passed"


def test_where_nothing_can_be_rendered_nothing_passes() -> None:
    class Never(FakeTokenizer):
        def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
            raise InputError("no template")

    side = Never()
    ran = check(side, ServingSide(side, same=True), sample=sample(TALK))
    assert "neither training nor serving can render" in (ran.skipped or "")


def test_plain_text_is_skipped() -> None:
    assert "plain text" in (check(sample=Sample(rows=(), total=5)).skipped or "")


def test_rows_are_rendered_with_the_template_that_training_applies() -> None:
    side = Swapped(training_template="{% generation %}")

    ran = check(side, ServingSide(side, same=True))

    [finding] = ran.findings
    assert ran.measured["rows_different"] == 2
    assert ran.measured["probes_different"] == 0
    assert "TRL's own version" in (finding.fix or "")


def test_words_of_rows_are_never_shown() -> None:
    assert "secret" not in str(check(serving=serving_side(opening="<|assistant|> ")).result)


def test_another_tokenizer_with_the_same_words_is_left_to_tokenizer_parity() -> None:
    assert check(serving=serving_side(shift=1)).result.outcome == "passed"


def test_gold_prompts_in_other_words_are_an_error_at_the_gold_set() -> None:
    asked = job(data={"gold": {"path": "gold.json"}})
    held = gold(("Why?", "So."), ("And?", "Then."), using=tokenizer(opening="<|assistant|>\n"))

    ran = check(job=asked, inputs=inputs(asked, gold=held))

    [finding] = ran.findings
    assert finding.at == asked.at("data.gold")
    assert finding.message.startswith("2 of 2 gold prompts differ from the text that training renders")
    assert ran.measured["gold_different"] == 2


def test_a_date_in_the_template_is_a_warning_at_the_template() -> None:
    ran = check(tokenizer(dated=True))

    [finding] = ran.findings
    assert (finding.severity, finding.at) == (Severity.WARNING, job().at("model.chat_template"))
    assert ran.measured["changing_with_date"] == 2


def test_a_date_that_every_row_pins_is_no_finding() -> None:
    pinned = {"date_string": "1 Jan 2026"}
    found = sample(TALK, TALK)
    drawn = Sample(tuple(dataclasses.replace(row, template_kwargs=pinned) for row in found.rows), 2)

    assert check(tokenizer(dated=True), sample=drawn).findings == ()


def test_another_template_with_the_ids_of_the_lock_is_only_noted() -> None:
    ran = check(tokenizer(training_template="{# a comment #}"), lock=locked_with(tokenizer()))

    [finding] = ran.findings
    assert (ran.result.outcome, finding.severity) == ("passed", Severity.INFO)


def test_another_template_with_other_ids_than_the_lock_is_an_error_at_the_template() -> None:
    ran = check(
        tokenizer(training_template="new", opening="<|x|>", loses=("system",)), lock=locked_with(tokenizer())
    )

    [finding] = ran.findings
    assert (finding.severity, finding.at) == (Severity.ERROR, job().at("model.chat_template"))
    assert "3 of 8 built-in conversations" in finding.message
