from typing import Any

import pytest
from ftcheck_plugins.guard import Code, Decision, Refused, admitted, capped, count, decide, normalised

from ftcheck.errors import InputError
from ftcheck.testing import FakeTokenizer
from tests.plugins.guard.kit import OVERHEAD, guard, user


@pytest.mark.parametrize("over", ["rules", "chunk", "reject"])
@pytest.mark.parametrize("limit", [1, 7, 512])
def test_the_limit_itself_passes_and_one_token_more_does_not(over: str, limit: int) -> None:
    action = Decision(over)

    assert decide(limit, limit, action) is Decision.PASS
    assert decide(limit + 1, limit, action) is action


def test_an_input_is_counted_as_it_is_rendered_with_the_system_prompt_and_the_opened_turn() -> None:
    alone = admitted(guard(), user("hello"))
    led = admitted(guard(system_prompt="be brief"), user("hello"))

    assert alone.tokens == len("hello") + OVERHEAD
    assert led.tokens == alone.tokens + len("be brief") + 2
    assert led.messages[0] == {"role": "system", "content": "be brief"}


def test_a_system_prompt_of_the_requests_own_stays_the_only_one() -> None:
    asked = [{"role": "system", "content": "mine"}, *user("hello")]

    assert [one["role"] for one in normalised(asked, "be brief")] == ["system", "user"]


def test_switches_and_tools_reach_the_template() -> None:
    seen: dict[str, Any] = {}

    class Seeing(FakeTokenizer):
        def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
            seen.update(switches, prompt=prompt)
            return ""

    count(guard(tokenizer=Seeing(), switches={"enable_thinking": False}), tuple(user("x")), [{"a": 1}])

    assert seen == {"enable_thinking": False, "tools": [{"a": 1}], "prompt": True}


def test_over_the_limit_is_refused_with_limit_and_count_and_without_a_word_of_the_input() -> None:
    with pytest.raises(Refused) as caught:
        admitted(guard(limit=20), user("secret heron " * 4))

    assert str(caught.value) == "the input has 55 tokens as the model reads it; the limit is 20"
    assert (caught.value.reason, caught.value.status) == (Code.OVER_LIMIT, 400)


def test_an_input_beyond_all_bounds_is_refused_before_it_is_tokenised() -> None:
    class Untouched(FakeTokenizer):
        def encode(self, text: str, *, special: bool = False) -> list[int]:
            raise AssertionError

    with pytest.raises(Refused, match="far longer than the limit"):
        admitted(guard(limit=2, over="rules", tokenizer=Untouched()), user("x" * 9_600))


@pytest.mark.parametrize(("asked", "cap"), [(None, 16), (16, 16), (17, 16), (10**9, 16), (1, 1)])
def test_the_cap_is_never_more_than_the_jobs(asked: int | None, cap: int) -> None:
    assert capped(asked, 16) == cap


@pytest.mark.parametrize("asked", [0, -1, "16", 1.5, True, [16]])
def test_a_cap_that_is_no_number_of_tokens_is_refused(asked: Any) -> None:
    with pytest.raises(Refused, match="max_tokens must be"):
        capped(asked, 16)


def test_parts_of_text_become_one_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]

    [message] = normalised([{"role": "user", "content": parts, "name": "n"}], None)

    assert message == {"role": "user", "content": "one\ntwo", "name": "n"}


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "hello",
        ["hello"],
        [{"content": "no role"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:..."}}]}],
        [{"role": "user", "content": [{"type": "text", "text": None}]}],
    ],
)
def test_what_cannot_be_counted_is_refused(messages: Any) -> None:
    with pytest.raises(Refused) as caught:
        admitted(guard(), messages)

    assert caught.value.reason is Code.NOT_COUNTED


def test_a_template_that_refuses_does_not_get_to_quote_the_input() -> None:
    class Refusing(FakeTokenizer):
        def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
            raise InputError(f"roles must alternate: {messages}")

    with pytest.raises(Refused) as caught:
        admitted(guard(tokenizer=Refusing()), user("secret heron"))

    assert "heron" not in str(caught.value)
