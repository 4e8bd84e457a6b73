from typing import Any

import pytest
from ftcheck_rules.template.cases.reasoning import (
    ASKED,
    CASES,
    THOUGHT,
    answered,
    given,
    lost,
    thinks,
)
from ftcheck_rules.template.reasoning import reasoning

from ftcheck import Severity
from ftcheck.inputs.columns import Keys, KeySet
from ftcheck.testing import Case, FakeTokenizer, Ran, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(reasoning, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed"), ran.findings


def of(*talks: Any, **more: Any) -> Ran:
    return run(reasoning, **given(*talks, **more))


def test_a_row_without_reasoning_is_skipped() -> None:
    assert "no row has reasoning" in str(of(answered()).skipped)


def test_lost_reasoning_is_an_error_that_names_the_key_that_the_template_reads() -> None:
    [finding] = run(reasoning, **lost()).findings

    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "the template leaves out the reasoning of 1 of 1 row that has any: it does not render thoughts"
    )
    assert finding.fix == "rename the key thoughts to reasoning_content, which the template reads"
    assert finding.at is not None
    assert finding.at.line == 1


def test_lost_reasoning_goes_into_the_content_where_the_template_reads_no_key() -> None:
    [finding] = run(reasoning, **lost("reasoning_content", using=thinks(reads="nothing"))).findings
    assert (finding.fix or "").startswith("write the reasoning into the content, before the answer: <think>")


def test_lost_reasoning_without_a_way_asks_for_another_template_or_none_of_the_key() -> None:
    class Drops(FakeTokenizer):
        def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
            return super().render([{**one, "content": "x"} for one in messages], prompt=prompt)

    [finding] = run(reasoning, **lost("cot", using=Drops())).findings
    assert finding.fix == (
        "set model.chat_template to a copy of the template that renders reasoning, or remove the key cot"
        " where it is not to be learned"
    )


def test_lost_reasoning_of_one_row_in_200_is_a_warning() -> None:
    talks = [answered(reasoning_content=f"{THOUGHT} {n}") for n in range(200)]
    remarks = {"thought": range(200), "thought-in:cot": [7], "thought-lost": [7]}
    [finding] = of(*talks, remarks=remarks).findings
    assert finding.severity is Severity.WARNING


def test_open_blocks_are_an_error_with_rows_that_can_be_left_out() -> None:
    talks = [answered(f"<think>\n{THOUGHT}")] * 3
    [finding] = of(*talks, remarks={"thought-open": [0, 1, 2]}).findings
    assert finding.severity is Severity.ERROR
    assert finding.message == ("3 of 3 rows with reasoning open <think> and never close it (also lines 2, 3)")


def test_reasoning_of_earlier_turns_that_is_left_out_is_a_warning_where_it_is_trained() -> None:
    talk = (*answered("Bonn", reasoning_content="Before."), *answered(reasoning_content=THOUGHT))
    told = {"thought": [0], "thought-in:reasoning_content": [0]}

    [finding] = of(talk, remarks={**told, "thought-lost-past": [0]}, using=thinks(past=False)).findings
    assert finding.severity is Severity.WARNING
    assert "make a row of each assistant turn" in (finding.fix or "")
    prompted = {**told, "thought-lost-prompt": [0]}
    assert not of(talk, remarks=prompted, using=thinks(past=False)).findings
    whole = {"completion_only_loss": False}
    assert len(of(talk, remarks=prompted, using=thinks(past=False), training=whole).findings) == 1


def test_a_prompt_that_opens_a_block_is_mended_by_the_switch_that_closes_it() -> None:
    [finding] = of(answered(), using=thinks(opens="<think>\n")).findings
    assert finding.severity is Severity.ERROR
    assert finding.fix == "set serving.chat_template_kwargs: {enable_thinking: false}, as the rows are"


def test_a_mode_that_other_rows_have_is_only_remarked() -> None:
    talks = [answered(reasoning_content=THOUGHT), answered("Rome")]
    remarks = {"thought": [0], "thought-in:reasoning_content": [0], "thought-switch": [0, 1]}
    ran = of(*talks, using=thinks(opens="<think>\n"), remarks=remarks)
    assert ran.worst is Severity.INFO
    assert "1 of 2 sample rows goes on otherwise; 1 begins so" in ran.findings[0].message


def test_reasoning_outside_the_loss_is_a_warning() -> None:
    talk = answered(reasoning_content=THOUGHT)
    remarks = {"thought": [0], "thought-in:reasoning_content": [0]}
    [finding] = of(talk, remarks=remarks, trained=6).findings
    assert "the reasoning is rendered but not in the loss" in finding.message
    assert not of(talk, remarks=remarks, trained=80).findings


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("an empty thinking block", {"remarks": {"thought-marked": [1]}}),
        ("a template switch", {"remarks": {"thought-switch": [1]}}),
        ("the system prompt", {"system": [0, 1]}),
        ("a mark in the prompt", {}),
    ],
)
def test_what_tells_rows_with_and_without_reasoning_apart(what: str, more: dict[str, Any]) -> None:
    mark = {**ASKED, "content": "Which? /no_think"} if what == "a mark in the prompt" else ASKED
    talks = [answered(reasoning_content=THOUGHT), (mark, answered("Rome")[1])]
    told = {"thought": [0], "thought-in:reasoning_content": [0]}
    made = {**more, "remarks": {**told, **more.get("remarks", {})}}

    [finding] = of(*talks, **made).findings
    assert finding.severity is Severity.INFO
    assert what in finding.message


def test_a_mixture_that_nothing_tells_apart_is_a_warning_with_a_switch() -> None:
    talks = [answered(reasoning_content=THOUGHT), answered("Rome")]
    [finding] = of(*talks, remarks={"thought": [0], "thought-in:reasoning_content": [0]}).findings
    assert finding.severity is Severity.WARNING
    assert '"chat_template_kwargs": {"enable_thinking": false}' in (finding.fix or "")


def test_reasoning_above_the_cap_is_told_unless_serving_switches_it_off() -> None:
    talk, told = answered(reasoning_content=THOUGHT), {"thought": [0], "thought-in:reasoning_content": [0]}
    ran = of(talk, remarks=told, serving={"max_new_tokens": 20})
    assert ran.measured["reasoning_p50"] == len(THOUGHT)
    assert f"the longest has {len(THOUGHT)}" in ran.findings[0].message
    off = {"max_new_tokens": 20, "chat_template_kwargs": {"enable_thinking": False}}
    assert not of(talk, remarks=told, serving=off).findings


def test_a_column_of_reasoning_that_no_trainer_reads() -> None:
    made = given(answered(), data={"messages": [], "reasoning": THOUGHT})
    keys = (KeySet(Keys(("messages", "reasoning"), False), 1, 0),)
    held = made["prepared"]
    object.__setattr__(held.rows, "key_sets", keys)

    [finding] = run(reasoning, **made).findings
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("the column reasoning of 1 row is not trained")


def test_reasoning_rendered_twice_is_a_warning() -> None:
    talk = answered(f"<think>{THOUGHT}</think>Paris", reasoning_content=THOUGHT)
    ran = of(talk, remarks={"thought": [0], "thought-in:reasoning_content": [0], "thought-twice": [0]})
    assert ran.worst is Severity.WARNING
