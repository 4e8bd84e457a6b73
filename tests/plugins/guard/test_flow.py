import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from ftcheck_plugins.guard import Answer, Code, Guard, Refused, admitted, answered, count, parts, stricter

from tests.plugins.guard.kit import (
    TEAM,
    Script,
    guard,
    user,
)

LONG = "The heron stood. It did not move! Then it flew away? " * 8


def ask(one: Guard, text: str, model: Script, cap: int | None = None) -> Answer:
    return asyncio.run(answered(one, admitted(one, user(text), cap), model))


def refused(one: Guard, text: str, model: Script) -> Refused:
    with pytest.raises(Refused) as caught:
        ask(one, text, model)
    return caught.value


def test_an_answer_without_a_schema_goes_out_as_it_is() -> None:
    model = Script("anything")

    assert ask(guard(), "hello", model, cap=4).text == "anything"
    assert model.caps == [4]


def test_a_good_answer_is_asked_for_once() -> None:
    model = Script('{"team": "hr"}')

    assert ask(guard(schema=TEAM, schema_retries=1), "hello", model).retries == 0
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    "broken", ['{"team": "law"}', "{}", "not json", '{"team": "hr"', '{"team": NaN}', ""]
)
def test_a_broken_answer_is_asked_for_exactly_once_again(broken: str) -> None:
    model = Script(broken, '{"team": "it"}')

    answer = ask(guard(limit=2000, schema=TEAM, schema_retries=1), "hello", model)

    assert (answer.text, answer.retries) == ('{"team": "it"}', 1)
    assert len(model.asked) == 2
    assert "JSON Schema" in str(model.asked[1][-1]["content"])


def test_tokens_of_both_answers_are_counted() -> None:
    first, second = Answer("no", "stop", 10, 3), Answer('{"team": "it"}', "stop", 40, 5)

    answer = ask(guard(limit=2000, schema=TEAM, schema_retries=1), "hello", Script(first, second))

    assert (answer.prompt_tokens, answer.completion_tokens) == (50, 8)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_an_answer_that_stays_broken_is_refused_in_the_schemas_words(retries: int) -> None:
    model = Script('{"team": "secret heron"}')

    error = refused(guard(limit=2000, schema=TEAM, schema_retries=retries), "hello", model)

    assert (error.reason, error.status, len(model.asked)) == (Code.SCHEMA, 502, retries + 1)
    assert error.answer is not None
    assert error.answer.retries == retries


def test_the_stricter_prompt_holds_the_input_limit_and_says_less_where_there_is_less_room() -> None:
    lengths = []
    for limit in (600, 160, 70, 40):
        one = guard(limit=limit, schema=TEAM)
        again = stricter(one, admitted(one, user("hello")), ["$.team: is none of the 2 allowed values"])
        assert again is None or count(one, again) <= limit
        lengths.append(0 if again is None else count(one, again))

    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 0
    assert all(lengths[:-1])


def test_without_room_for_a_stricter_prompt_a_broken_answer_is_refused() -> None:
    model = Script("broken")

    assert refused(guard(limit=12, schema=TEAM, schema_retries=1), "hello", model).reason is Code.SCHEMA
    assert len(model.asked) == 1


def test_an_answer_over_the_cap_does_not_go_out() -> None:
    error = refused(guard(), "hello", Script(Answer("on " * 17, "stop", 8, 17)))

    assert (error.reason, str(error)) == (
        Code.OVER_CAP,
        "the server ignored max_tokens: it returned 17 tokens, the limit is 16",
    )


@pytest.mark.parametrize("limit", [45, 46, 64, 100, 250])
def test_every_chunk_is_within_the_limit_and_all_of_the_text_is_sent(limit: int) -> None:
    one = guard(limit=limit, over="chunk", system_prompt="brief")
    question = admitted(one, user(LONG))

    made = parts(one, question)

    assert all(part.tokens == count(one, part.messages) <= limit for part in made)
    assert "".join(str(part.messages[-1]["content"]) for part in made).strip() == LONG.strip()
    assert all(part.messages[0] == {"role": "system", "content": "brief"} for part in made)


def test_chunks_answers_are_merged_and_the_merged_answer_is_checked() -> None:
    one = guard(limit=250, over="chunk", schema={"type": "array", "maxItems": 3})

    answer = ask(one, LONG, Script('["a"]', '["b"]'))

    assert (json.loads(answer.text), answer.chunks) == (["a", "b"], 2)
    assert refused(one, LONG, Script('["a", "b"]')).reason is Code.SCHEMA


def test_each_chunks_broken_answer_is_retried() -> None:
    one = guard(limit=250, over="chunk", schema=TEAM, schema_retries=1)

    answer = ask(one, LONG, Script("broken", '{"team": "hr"}', '{"team": "hr"}'))

    assert (answer.text, answer.retries, answer.chunks) == ('{"team": "hr"}', 1, 3)


def test_a_server_with_more_room_than_the_input_limit_lends_it_to_the_stricter_prompt() -> None:
    small = guard(limit=8, schema=TEAM, schema_retries=1)
    model = Script("broken", '{"team": "hr"}')

    assert ask(replace(small, room=2000), "hello", model).retries == 1
    assert refused(small, "hello", Script("broken")).reason is Code.SCHEMA


def test_an_input_of_too_many_parts_is_refused() -> None:
    assert "the limit is 16" in str(refused(guard(limit=15, over="chunk"), LONG, Script("x")))


def test_a_history_that_leaves_no_room_cannot_be_cut_up() -> None:
    one = guard(limit=20, over="chunk", system_prompt="a system prompt of its own")

    assert "leave no room" in str(refused(one, LONG, Script("x")))


def test_a_conversation_without_a_user_cannot_be_cut_up() -> None:
    one = guard(limit=20, over="chunk")
    question = admitted(one, [{"role": "assistant", "content": LONG}])

    with pytest.raises(Refused, match="no user message"):
        parts(one, question)


@pytest.mark.parametrize("reason", list(Code))
def test_every_reason_has_an_http_status(reason: Code) -> None:
    assert Refused(reason, "").status in (400, 500, 502)


def test_what_is_refused_never_quotes_question_or_answer() -> None:
    told: list[Any] = []
    for one in (guard(limit=30), guard(limit=400, schema=TEAM), guard(limit=30, over="chunk", schema=TEAM)):
        told.append(str(refused(one, "secret heron " * 12, Script('{"team": "secret heron"}'))))

    assert len(told) == 3
    assert not any("heron" in text for text in told)
