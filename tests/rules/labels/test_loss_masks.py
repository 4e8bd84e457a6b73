from typing import Any

import numpy as np
import pytest
from ftcheck_rules.labels.cases.loss_masks import CASES, TALK, Texts
from ftcheck_rules.labels.loss_masks import collator, prompt_boundary, response_markers

from ftcheck import Severity
from ftcheck.inputs.collated import Collated
from ftcheck.inputs.tokenizer import Message
from ftcheck.testing import Case, FakeTokenizer, Ran, job, prepared, rows, run, sample, tokenizer

RULES = {one.id: one for one in (collator, response_markers, prompt_boundary)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def collating(made: Collated | None) -> Ran:
    return run(collator, job=job(trainer={"collator": "transformers"}), collated=made)


def test_a_stop_token_without_its_label_is_an_error_at_the_collator() -> None:
    ran = collating(Collated("transformers", (0, 1), stops=2, stops_lost=2, masked_trained=7, pads=5))

    lost, anew = ran.findings
    assert lost.severity is Severity.ERROR
    assert lost.at == job().at("trainer.collator")
    assert lost.message.startswith("2 of 2 stop tokens in two rows lose their labels in transformers'")
    assert anew.severity is Severity.WARNING
    assert ran.measured["stops_lost"] == 2


def test_a_collator_that_makes_no_batch_is_an_error() -> None:
    [finding] = collating(Collated("transformers", (0, 1), problem="Asking to pad")).findings
    assert finding.severity is Severity.ERROR
    assert "Asking to pad" in finding.message


def test_without_trl_its_collator_is_skipped() -> None:
    assert (
        collating(None).skipped == "trl is not installed on this machine, so its collator cannot be checked"
    )


def test_without_rows_nothing_is_collated() -> None:
    assert collating(Collated("transformers")).skipped == "no row is left to train on"


LONG: tuple[Message, ...] = (
    *TALK,
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "No."},
)


def markers(
    response: str | None, instruction: str | None = None, *, using: FakeTokenizer | None = None, **params: Any
) -> Ran:
    side = using or tokenizer()
    texts = [side.render(LONG)] * 3
    lengths = [len(tokenizer().encode(text)) for text in texts]
    return run(
        response_markers,
        params,
        job=job(trainer={"response_part": response, "instruction_part": instruction}),
        tokenizer=side,
        prepared=prepared(lengths, tokens=Texts(texts)),
    )


def test_a_marker_that_is_in_no_row_is_an_error_with_what_the_template_writes() -> None:
    ran = markers("### Response:\n", "<|user|>")

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.at == job().at("trainer.response_part")
    assert finding.message.startswith("trainer.response_part occurs in 0 of 3 rows")
    assert finding.change is not None
    assert finding.change.new == "<|assistant|>"
    assert markers(finding.change.new, "<|user|>").result.outcome == "passed"


def test_both_markers_are_looked_for() -> None:
    assert [one.at for one in markers("nowhere", "nor here").findings] == [
        job().at("trainer.response_part"),
        job().at("trainer.instruction_part"),
    ]


def test_a_marker_that_stands_there_with_other_white_space_is_a_warning() -> None:
    [finding] = markers("<|assistant|>\n").findings
    assert finding.severity is Severity.WARNING
    assert "it occurs in 3" in finding.message


def test_nothing_is_proposed_that_is_not_in_the_rows() -> None:
    class Another(FakeTokenizer):
        def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
            shown = super().render(messages, prompt=prompt)
            return shown.replace("<|assistant|>", "Answer: ") if "ftcheck" in shown else shown

    [finding] = markers("### Response:\n", using=Another()).findings
    assert finding.change is None


def test_without_markers_it_is_skipped() -> None:
    assert markers(None).skipped is not None


def boundary(off: list[int], *, layout: str = "prompt-completion", talk: Any = (), **training: Any) -> Ran:
    where = rows(len(off), layout=layout)
    using = training.pop("using", tokenizer())
    return run(
        prompt_boundary,
        job=job(training=training),
        tokenizer=using,
        prepared=prepared([9] * len(off), of=where, boundary=np.array(off, dtype=np.int32)),
        sample=sample(*talk, using=using),
    )


def test_prompts_that_do_not_begin_their_rows_are_a_warning_at_the_first() -> None:
    ran = boundary([0, 2, 1])

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert str(finding.at) == "train.jsonl:2:1"
    assert "in 2 of 3 rows" in finding.message
    assert "its last 1 to 2 tokens" in finding.message
    assert ran.measured == {"rows_off": 2, "tokens_off": 2}


def test_one_row_in_a_hundred_is_a_remark() -> None:
    ran = boundary([1] + [0] * 99)
    assert ran.result.outcome == "passed"
    assert ran.worst is Severity.INFO


class OtherPrompt(FakeTokenizer):
    """A prompt that is no prefix of its row, as text."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        return ("Prompt: " if prompt else "") + super().render(messages, prompt=prompt)


def test_what_chat_template_says_already_is_a_remark() -> None:
    ran = boundary([9, 9], talk=[TALK], using=OtherPrompt())
    assert ran.worst is Severity.INFO
    assert ran.findings[0].fix == "see the check `chat-template`"


@pytest.mark.parametrize(
    ("layout", "training"), [("messages", {}), ("text", {}), ("alpaca", {"completion_only_loss": False})]
)
def test_where_no_prompt_is_masked_it_is_skipped(layout: str, training: Any) -> None:
    assert boundary([1], layout=layout, **training).skipped is not None


def test_item_19_no_stop_token_in_the_loss_is_no_pass() -> None:
    ran = collating(Collated("trl", rows=(0, 1), pads=5))
    assert ran.skipped is not None
    assert "no stop token" in ran.skipped
    assert collating(Collated("trl", rows=(0, 1), pads=5, pads_trained=2)).result.outcome == "failed"


def test_rows_that_are_drawn_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftcheck_rules.labels.loss_masks.LOOKED_AT", 2)

    ran = markers("<|assistant|>")

    assert "in 2 of 2 rows, drawn from 3" in (ran.result.summary or "")
