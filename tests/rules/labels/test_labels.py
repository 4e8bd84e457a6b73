from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from ftcheck_rules.labels.cases.labels import CASES
from ftcheck_rules.labels.labels import trained_tokens, truncation

from ftcheck import Location, Severity
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message
from ftcheck.testing import (
    Case,
    FakeTokenizer,
    Ran,
    inputs,
    job,
    model_config,
    prepared,
    rows,
    run,
    sample,
    token_store,
    tokenizer,
)

RULES = {one.id: one for one in (trained_tokens, truncation)}
TALK: tuple[Message, ...] = ({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def trained(rows: Any, *, talk: Any = None, params: Any = None, **training: Any) -> Ran:
    return run(
        trained_tokens,
        params,
        inputs=inputs(),
        model=model_config(),
        job=job(training=training),
        tokenizer=tokenizer(),
        prepared=rows,
        sample=sample(*([talk] if talk else [])),
    )


def test_a_row_with_nothing_in_the_loss_is_reported_on_its_line() -> None:
    ran = trained(prepared([10, 10], trained=[4, 0]))

    [finding] = ran.findings
    assert str(finding.at) == "train.jsonl:2:1"
    assert finding.message == "none of the row's 10 tokens is in the loss"
    assert ran.measured["rows_untrained"] == 1


def test_the_share_in_the_loss_is_measured_over_what_is_fed() -> None:
    ran = trained(prepared([10, 30], trained=[4, 6]))

    assert ran.result.outcome == "passed"
    assert ran.measured["trained_share"] == 0.25
    assert ran.measured["ends_in_stop"] == 1.0
    assert ran.measured["stop_trained"] == 1.0


def test_rows_that_the_cut_leaves_with_nothing_are_a_warning_at_max_length() -> None:
    ran = trained(prepared([10, 50], trained=[5, 5], max_length=20), max_length=20)

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("training.max_length")
    assert ran.measured["rows_untrained"] == 1


def test_outliers_that_the_policy_drops_are_no_concern() -> None:
    rows = prepared([10, 50], trained=[5, 5], max_length=20, outlier=np.array([False, True]))
    dropping = job(data={"outliers": {"action": "drop"}})

    ran = run(
        trained_tokens,
        inputs=inputs(),
        model=model_config(),
        job=dropping,
        tokenizer=tokenizer(),
        prepared=rows,
        sample=sample(),
    )

    assert ran.result.outcome == "passed"
    assert ran.measured["rows_untrained"] == 0
    assert run(truncation, inputs=inputs(), job=dropping, prepared=rows).measured["rows_cut"] == 0


@pytest.mark.parametrize(
    ("without", "severity"), [(0, None), (1, Severity.WARNING), (2, Severity.ERROR)], ids=str
)
def test_more_than_one_row_in_a_hundred_without_its_stop_token_is_an_error(
    without: int, severity: Severity | None
) -> None:
    stopped = np.arange(100) >= without

    ran = trained(prepared([9] * 100, trained=[4] * 100, stop_trained=stopped))

    assert ran.worst is severity
    assert ran.measured["stop_trained"] == 1 - without / 100


def test_rows_without_any_stop_token_are_told_from_those_that_mask_it() -> None:
    rows = prepared(
        [9, 9, 9],
        trained=[4, 4, 4],
        ends_in_stop=np.array([True, False, True]),
        stop_trained=np.array([False, False, True]),
    )

    absent, masked = trained(rows).findings

    assert str(absent.at) == "train.jsonl:2:1"
    assert absent.message == "1 of 3 rows that are not truncated does not end with a stop token"
    assert "<|end|>" in (absent.fix or "")
    assert str(masked.at) == "train.jsonl:1:1"


def test_stop_tokens_are_not_asked_of_rows_that_are_cut() -> None:
    ran = trained(prepared([9, 30], trained=[4, 25], max_length=20), max_length=20)
    assert ran.result.outcome == "passed"
    assert ran.measured["stop_trained"] == 1.0


def test_an_assistant_mask_that_takes_in_the_prompt_is_a_warning_at_the_row() -> None:
    length = len(tokenizer().encode(tokenizer().render(TALK)))
    answer = len("So.") + 1

    right = trained(prepared([length], trained=[answer]), talk=TALK, assistant_only_loss=True)
    early = trained(prepared([length], trained=[answer + 1]), talk=TALK, assistant_only_loss=True)

    assert right.result.outcome == "passed"
    assert right.measured["prompt_tokens_trained"] == 0
    [finding] = early.findings
    assert finding.severity is Severity.WARNING
    assert str(finding.at) == "train.jsonl:1:1"
    assert early.measured["prompt_tokens_trained"] == 1


class BlankOpening(FakeTokenizer):
    """The assistant's turn is opened with a line break, as in ChatML."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        return super().render(messages, prompt=prompt).replace("<|assistant|>", "<|assistant|>\n")


def test_a_line_break_before_the_answer_in_the_loss_is_a_remark_only() -> None:
    """TRL's training template for Qwen2.5 takes it into the generation block."""
    using = BlankOpening()
    length = len(using.encode(using.render(TALK)))

    ran = run(
        trained_tokens,
        inputs=inputs(),
        model=model_config(),
        job=job(training={"assistant_only_loss": True}),
        tokenizer=using,
        prepared=prepared([length], trained=[len("\nSo.") + 1]),
        sample=sample(TALK, using=using),
    )

    [finding] = ran.findings
    assert finding.severity is Severity.INFO
    assert finding.message.startswith("the assistant mask starts 1 whitespace token early")
    assert ran.measured["prompt_tokens_trained"] == 1


MARKED = "{% for m in messages %}{% generation %}…{% endgeneration %}{% endfor %}"


def whole(*, places: dict[str, Any] | None = None, template: str = MARKED, turns: int = 3) -> Ran:
    made = job()
    return run(
        trained_tokens,
        inputs=inputs(),
        model=model_config(),
        job=replace(made, places={**made.places, **(places or {})}),
        tokenizer=tokenizer(chat_template=template, training_template=template),
        prepared=prepared([9, 9], of=rows(2, turns=[turns] * 2)),
        sample=sample(),
    )


def test_questions_in_the_loss_that_nobody_asked_for_are_a_warning_with_a_change() -> None:
    [finding] = whole().findings

    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("training.assistant_only_loss")
    assert finding.change is not None
    assert (finding.change.new, finding.change.safe) == (True, False)


def test_questions_in_the_loss_without_markers_are_told_of_without_a_change() -> None:
    [finding] = whole(template="{{ messages }}").findings
    assert finding.change is None
    assert "{% generation %}" in (finding.fix or "")


@pytest.mark.parametrize("key", ["assistant_only_loss", "completion_only_loss"])
def test_questions_in_the_loss_are_fine_where_the_policy_says_so(key: str) -> None:
    place = Location(path="policy.yaml", line=9)
    assert whole(places={f"training.{key}": place}).result.outcome == "passed"


def test_plain_text_has_no_questions() -> None:
    assert whole(turns=0).result.outcome == "passed"


@dataclass
class OneToken:
    """A row of five tokens of which the last is in the loss."""

    last: int

    def ids(self, row: int) -> Any:
        return np.array([1, 2, 3, 4, self.last])

    def mask(self, row: int) -> Any:
        return np.array([False] * 4 + [True])


@pytest.mark.parametrize(
    ("last", "remarks", "outcome"),
    [
        (1_000_000, {}, "failed"),
        (ord("A"), {}, "passed"),
        (1_000_000, {"empty-answer": [0]}, "passed"),
        (1_000_000, {"null-content": [0]}, "passed"),
    ],
)
def test_a_row_with_only_its_stop_token_in_the_loss(last: int, remarks: Any, outcome: str) -> None:
    made = prepared([5], trained=[1], of=rows(1, remarks=remarks), tokens=OneToken(last))

    ran = trained(made)

    assert ran.result.outcome == outcome
    assert all(str(one.at) == "train.jsonl:1:1" for one in ran.findings)


def test_no_prepared_row_is_skipped() -> None:
    broken = prepared([9], row_errors={0: RowError("json", "not JSON")})
    assert trained(broken).skipped == "no row could be prepared"
    assert run(truncation, inputs=inputs(), job=job(), prepared=broken).skipped == "no row could be prepared"


def cut(
    lengths: list[int], in_loss: list[int], max_length: int, *, params: Any = None, **sections: Any
) -> Ran:
    made = job(training={"max_length": max_length, **sections.pop("training", {})}, **sections)
    rows = prepared(lengths, trained=in_loss, max_length=max_length, packing=made.training.packing)
    return run(truncation, params, inputs=inputs(), job=made, prepared=rows)


def test_a_row_left_with_nothing_is_an_error_on_its_line() -> None:
    ran = cut([1311, 100], [188, 60], 1024)

    summary, row = ran.findings
    assert str(row.at) == "train.jsonl:1:1"
    assert (
        row.message
        == "the answer is cut: of 1,311 tokens, max_length 1024 keeps none of the 188 trained tokens"
    )
    assert summary.at == job().at("training.max_length")
    assert ran.measured == {"rows_cut": 1, "trained_tokens_lost": 188, "rows_untrained": 1}
    assert ran.result.summary == ("1 of 2 rows cut · 188 trained tokens lost (75.8 %) · 1 row left with none")


def test_packing_keeps_a_row_that_is_cut_to_nothing_and_it_still_counts() -> None:
    ran = cut([1311, 100], [188, 60], 1024, training={"packing": True})
    assert ran.measured["rows_untrained"] == 1


def test_the_proposed_length_is_the_smallest_that_mends_it() -> None:
    [first, *_] = cut([300] * 99 + [900], [50] * 100, 256).findings

    assert first.change is not None
    assert (first.change.old, first.change.new, first.change.safe) == (256, 896, False)
    assert first.fix == "max_length: 256 -> 896 (keeps 99.9 % of trained tokens)"


def test_a_row_may_be_left_with_nothing_where_the_policy_says_so() -> None:
    ran = cut([300] * 199 + [900], [50] * 200, 320, params={"max_untrained": 1})

    assert ran.result.outcome == "passed"
    assert [finding.severity for finding in ran.findings] == [Severity.INFO]


def test_a_small_loss_is_noted_row_by_row_worst_first_and_passes() -> None:
    ran = cut([101, 102] + [90] * 98, [50] * 100, 100)

    assert ran.result.outcome == "passed"
    assert [str(finding.at) for finding in ran.findings] == ["train.jsonl:2:1", "train.jsonl:1:1"]
    assert ran.measured["trained_tokens_lost"] == 3


def test_rows_of_just_max_length_pass() -> None:
    ran = cut([100, 100], [50, 50], 100)
    assert not ran.findings
    assert ran.measured == {"rows_cut": 0, "trained_tokens_lost": 0, "rows_untrained": 0}


def test_nothing_is_proposed_past_the_target() -> None:
    [first, *_] = cut([900], [50], 256, targets={"max_length": (128, 512)}).findings
    assert first.change is None
    assert "data.outliers" in (first.fix or "")


def test_a_packing_that_splits_cuts_nothing() -> None:
    splitting = job(training={"max_length": 100, "packing": True, "packing_strategy": "bfd_split"})
    ran = run(
        truncation, inputs=inputs(), job=splitting, prepared=prepared([300], trained=[50], packing=True)
    )
    assert ran.result.summary == "no row is cut"


def test_many_cut_rows_are_counted_and_twenty_kept() -> None:
    ran = cut([300] * 2000, [50] * 2000, 100)
    assert ran.result.findings_total == 2001
    assert len(ran.findings) == 20
    assert ran.findings[0].change is not None


CALL = 1_000_002
TEMPLATE = "{% for m in messages %}{{ m }}<|call|><|end|>{% endfor %}"


@pytest.mark.parametrize(
    ("listed", "severity"),
    [([1_000_000, CALL], None), ([1_000_000], Severity.WARNING), (None, Severity.INFO)],
)
def test_23_a_stop_of_the_generation_config_is_a_stop(
    listed: list[int] | None, severity: Severity | None
) -> None:
    """gpt-oss' <|call|>, Llama 3.1's <|eom_id|>: rows that end so are right, and the advice keeps them."""
    ids = [65, 66, CALL]
    store = token_store(ids, ids, trained=[2, 2])
    none = np.array([False, False])
    of = prepared([3, 3], trained=[2, 2], tokens=store, ends_in_stop=none, stop_trained=none)
    side = tokenizer(
        marks=("<|end|>", "<|pad|>", "<|call|>"), chat_template=TEMPLATE, training_template=TEMPLATE
    )
    model = model_config(generation={"eos_token_id": listed} if listed else {})

    ran = run(
        trained_tokens,
        job=job(),
        tokenizer=side,
        prepared=of,
        sample=sample(),
        model=model,
        inputs=inputs(),
    )

    assert ran.worst is severity
    assert ran.measured["stop_trained"] == (1.0 if severity is None else 0.0)
    assert all("do not change the rows" in (one.fix or "") for one in ran.findings)
