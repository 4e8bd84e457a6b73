from typing import Any

import pytest
from ftcheck_rules.template.cases.templates import CASES
from ftcheck_rules.template.templates import chat_template

from ftcheck import Severity
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message
from ftcheck.testing import Case, FakeTokenizer, Ran, job, prepared, rows, run, sample, tokenizer

TALK: tuple[Message, ...] = (
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
)
RAISED = RowError("template", "the chat template raised TemplateError: roles must alternate", "look at it")


class Trimming(FakeTokenizer):
    """Renders what `edit` makes of each message."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        return super().render([self.edit(one) for one in messages], prompt=prompt)

    def edit(self, message: Message) -> Message:
        return {**message, "content": (message["content"] or "").strip()}


class Forgetful(Trimming):
    def edit(self, message: Message) -> Message:
        return {**message, "content": (message["content"] or "").rpartition("</think>")[2]}


class LastOnly(FakeTokenizer):
    """Renders the system message only where no answer follows, as Mistral's template does."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        return super().render(messages if prompt else messages[1:], prompt=prompt)


def check(using: FakeTokenizer | None = None, talk: tuple[Message, ...] = TALK, **changes: Any) -> Ran:
    side = using or tokenizer()
    made = {
        "job": job(),
        "tokenizer": side,
        "prepared": prepared([9, 9, 9]),
        "sample": sample(talk, using=side),
    }
    return run(chat_template, **{**made, **changes})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(chat_template, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def test_rows_on_which_the_template_raises_are_named_once_a_message() -> None:
    another = RowError("template", "the chat template raised UndefinedError: no role")

    ran = check(prepared=prepared([9] * 5, row_errors={1: RAISED, 3: RAISED, 4: another}))

    first, second = ran.findings
    assert str(first.at) == "train.jsonl:2:1"
    assert first.message == f"{RAISED.message} (2 rows; also line 4)"
    assert first.fix == "look at it"
    assert str(second.at) == "train.jsonl:5:1"
    assert ran.measured["rows_failed"] == 3


def test_many_rows_with_one_message_are_named_up_to_twenty() -> None:
    ran = check(prepared=prepared([9] * 30, row_errors=dict.fromkeys(range(30), RAISED)))

    [finding] = ran.findings
    assert finding.message.endswith("(30 rows; also lines " + ", ".join(map(str, range(2, 21))) + ", …)")


def test_conversations_without_a_template_are_one_finding_at_the_policy_key() -> None:
    missing = RowError("template", "the tokenizer has no chat template", "name one")
    bare = tokenizer(chat_template=None, training_template=None)

    ran = check(bare, prepared=prepared([9, 9], row_errors={0: missing, 1: missing}))

    [finding] = ran.findings
    assert finding.at == job().at("model.chat_template")
    assert finding.fix == "name one"
    assert ran.measured["rows_failed"] == 2


def test_missing_markers_are_one_finding_at_the_loss_that_needs_them() -> None:
    masked = job(training={"assistant_only_loss": True})
    trouble = RowError("template", "no markers", "put them in")

    ran = check(job=masked, prepared=prepared([9, 9], row_errors={0: trouble, 1: trouble}))

    [finding] = ran.findings
    assert finding.at == masked.at("training.assistant_only_loss")
    assert finding.fix == "put them in"
    assert ran.measured["markers"] is False


def test_markers_of_the_template_that_training_applies_are_enough() -> None:
    marked = tokenizer(training_template="{%- generation -%}…{%- endgeneration -%}")
    assert check(marked, job=job(training={"assistant_only_loss": True})).result.outcome == "passed"


def test_plain_text_under_assistant_only_loss_is_one_finding_with_a_change() -> None:
    trouble = RowError("template", "plain text", "take it out")
    texts = prepared([9, 9], of=rows(2, turns=[0, 0]), row_errors={0: trouble, 1: trouble})

    ran = check(job=job(training={"assistant_only_loss": True}), prepared=texts)

    [finding] = ran.findings
    assert finding.change is not None
    assert finding.change.path == "jobs.job.training.assistant_only_loss"
    assert finding.change.new is False


def test_plain_text_is_skipped() -> None:
    ran = check(prepared=prepared([9], of=rows(1, turns=[0])), sample=sample())
    assert ran.skipped == "no row is a conversation, so no chat template is applied"


def test_a_dropped_system_message_is_an_error_at_the_first_row_that_has_one() -> None:
    ran = check(tokenizer(loses=("system",)))

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert str(finding.at) == "train.jsonl:1:1"
    assert finding.message == "the template drops the system message in 1 of 1 sample row"
    assert ran.measured["rows_losing_words"] == 1


def test_a_system_message_that_only_the_prompt_has_is_seen() -> None:
    ran = check(LastOnly())

    assert [finding.severity for finding in ran.findings] == [Severity.ERROR, Severity.WARNING]
    assert ran.measured["rows_with_another_prompt"] == 1


def test_a_template_that_only_trims_passes() -> None:
    assert check(Trimming()).result.outcome == "passed"


def test_reasoning_is_left_to_the_rule_that_follows_it() -> None:
    talk = (*TALK[:2], {"role": "assistant", "content": "<think>hm, well</think>So."})
    assert check(Forgetful(), talk).result.outcome == "passed"


def test_what_the_template_does_with_built_in_conversations_is_only_measured() -> None:
    ran = check(tokenizer(loses=("system",)), TALK[1:])

    assert ran.result.outcome == "passed"
    assert ran.measured["probe_system"] == "left out"
    assert ran.measured["probe_rounds"] == "kept"
    assert ran.measured["probe_thinking"] == "left out"


def test_no_words_of_a_row_are_shown() -> None:
    ran = check(tokenizer(loses=("system", "user")))
    assert not any(word in str(ran.result) for word in ("brief", "Why"))
