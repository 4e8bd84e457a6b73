import pytest

from ftcheck.estimate.serving_load import load
from ftcheck.testing import gold, job

# FakeTokenizer: `<|user|>` + text + `<|end|>` + `<|assistant|>` are 3 marks and the text's characters.
QUESTIONS = gold(("12345", "abc"), ("1234567", "abcdefg"))


def test_tokens_of_a_request_by_hand() -> None:
    found = load(job(), QUESTIONS)

    assert found is not None
    assert (found.requests, found.prompt, found.answer) == (2, 9.0, 6.0)
    assert (found.prompt_p95, found.answer_p95) == (10, 8)
    assert found.tokens == 15.0
    assert found.replicas is None
    assert found.unknown == (
        "serving.tokens_per_second",
        "targets.requests_per_second",
        "hardware.price_per_hour",
    )


def test_replicas_and_cost_by_hand() -> None:
    one = job(
        serving={"tokens_per_second": 2400.0},
        targets={"requests_per_second": 1000.0},
        hardware={"price_per_hour": 1.8},
    )
    found = load(one, QUESTIONS)

    assert found is not None
    assert found.per_replica == 400
    assert found.replicas == 3
    # a thousand requests keep one replica busy for 2.5 s, at 1.8 / 3600 a second
    assert found.cost_per_1000 == pytest.approx(2.5 * 1.8 / 3600)
    assert found.unknown == ()


def test_without_gold_there_is_no_load() -> None:
    assert load(job(), None) is None
    assert load(job(), gold()) is None
