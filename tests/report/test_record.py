"""Whose ids a report is about, in words."""

import pytest

from ftcheck.report.record import IdsFrom


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (IdsFrom("trl", version="1.16"), "as TRL 1.16 prepares them"),
        (
            IdsFrom("prepared", framework="axolotl", path="ready", digest="sha256:0123456789abcdef"),
            "read from ready (axolotl), sha256:01234567…",
        ),
        (IdsFrom("prepared", path="ready"), "read from ready"),
        (
            IdsFrom("unverified", framework="command"),
            "unverified: the trainer command reads and tokenises the rows itself",
        ),
    ],
)
def test_whose_ids_were_checked(source: IdsFrom, said: str) -> None:
    assert str(source) == said
