"""What is kept of a row's format: its gist."""

import random
from typing import Any

import pytest
from ftcheck_plugins.reading import row_formats
from ftcheck_plugins.reading.row_formats import Example, talk

from ftcheck.dedup import fingerprints as likeness
from tests.plugins.preparation.kit import turns


def test_plain_talk_has_the_gist_of_any_conversation() -> None:
    rng = random.Random(0)
    roles = ["system", "developer", "user", "assistant", "tool", "odd"]
    texts = ["", " \n", "yes", '{"a": 1}', "[broken", "–"]
    for _ in range(2_000):
        count = rng.randint(1, 5)
        messages = [{"role": rng.choice(roles), "content": rng.choice(texts)} for _ in range(count)]
        known = row_formats.gist(Example(messages=tuple(messages), talk=talk(messages)))
        looked = row_formats.gist(Example(messages=tuple(messages)))

        assert sorted(known.remarks) == sorted(looked.remarks)
        assert known._replace(remarks=[]) == looked._replace(remarks=[])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "s"}, *turns()],
        [*turns(), {"role": "user", "content": "again?"}, {"role": "assistant", "content": None}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        [{"role": "tool", "content": "t"}, {"role": "user", "content": "q"}, {"role": "odd", "content": "o"}],
        [{"role": "assistant", "content": "first"}, *turns()],
    ],
)
def test_rows_and_gold_questions_are_compared_by_the_same_words(messages: list[dict[str, Any]]) -> None:
    """Leakage holds the fingerprint of a row against that of a gold item, which `likeness` makes."""
    for plain in (None, talk(messages)):
        gist = row_formats.gist(Example(messages=tuple(messages), talk=plain))

        assert gist.question == likeness.asked(messages)
        assert "\n".join(gist.said) == likeness.whole(messages)
